package localaws

import (
	"slices"

	"github.com/postern-net/postern"
)

type allowedPrincipal struct {
	Type         string    `xml:"principalType"`
	Principal    string    `xml:"principal"`
	PermissionID string    `xml:"servicePermissionId"`
	Tags         list[tag] `xml:"tagSet"`
	ServiceID    string    `xml:"serviceId"`
}

func allowed(serviceID string) func(permission) allowedPrincipal {
	return func(p permission) allowedPrincipal {
		return allowedPrincipal{Type: principalType(p.Principal), Principal: p.Principal, PermissionID: p.ID, ServiceID: serviceID}
	}
}

type modifyPermissionsResponse struct {
	reply
	Added  list[allowedPrincipal] `xml:"addedPrincipalSet"`
	Return bool                   `xml:"return"`
}

func (s *Server) modifyPermissions(c *call) (replier, error) {
	id := c.form.String("ServiceId")
	add, remove := c.form.List("AddAllowedPrincipals"), c.form.List("RemoveAllowedPrincipals")
	if err := c.known(); err != nil {
		return nil, err
	}
	for _, p := range add {
		if p != "*" && postern.CheckPrincipalARN("", p) != nil {
			return nil, fail("InvalidPrincipal", "The principal '%s' is not valid", p)
		}
	}
	res := &modifyPermissionsResponse{Return: true}
	return res, s.update(func(st *state) error {
		svc, err := c.ownService(st, id)
		if err != nil {
			return err
		}
		// Connections that were accepted stay when their principal goes.
		svc.Permissions = slices.DeleteFunc(svc.Permissions, func(p permission) bool { return slices.Contains(remove, p.Principal) })
		for _, p := range add {
			if slices.ContainsFunc(svc.Permissions, func(have permission) bool { return have.Principal == p }) {
				continue
			}
			made := permission{ID: newID("vpce-svc-perm-"), Principal: p}
			svc.Permissions = append(svc.Permissions, made)
			res.Added.Items = append(res.Added.Items, allowed(id)(made))
		}
		return nil
	})
}

type describePermissionsResponse struct {
	reply
	Allowed   list[allowedPrincipal] `xml:"allowedPrincipals"`
	NextToken string                 `xml:"nextToken,omitempty"`
}

func (s *Server) describePermissions(c *call) (replier, error) {
	svc, err := c.ownService(s.state.Load(), c.form.String("ServiceId"))
	if err != nil {
		return nil, err
	}
	found, err := filtered(c, svc.Permissions, map[string]field[permission]{
		"principal":      func(p permission) []string { return one(p.Principal) },
		"principal-type": func(p permission) []string { return one(principalType(p.Principal)) },
	}, nil)
	if err != nil {
		return nil, err
	}
	page, next, err := paged(c, found, func(p permission) string { return p.ID })
	if err != nil {
		return nil, err
	}
	return &describePermissionsResponse{Allowed: listOf(page, allowed(svc.ID)), NextToken: next}, c.known()
}
