package aws

import (
	"context"
	"log/slog"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/postern-net/postern"
)

const actModifyPermissions = "ec2:ModifyVpcEndpointServicePermissions"

// principalBatch bounds one change of the allow-list. AWS documents no limit;
// a change of this size is well under what a form may carry.
const principalBatch = 100

// Principals lists who may create an endpoint to a service at all, in order:
// ARNs, or "*" for everybody.
func (c *Cloud) Principals(ctx context.Context, svc postern.ServiceRef) ([]string, error) {
	cl, err := c.client(svc)
	if err != nil {
		return nil, err
	}
	in := &ec2.DescribeVpcEndpointServicePermissionsInput{ServiceId: awssdk.String(svc.ID), MaxResults: awssdk.Int32(pageSize)}
	out := []string{}
	err = everyPage(actPermissions, func(token *string) (*string, error) {
		in.NextToken = token
		page, err := cl.DescribeVpcEndpointServicePermissions(ctx, in)
		if err != nil {
			return nil, translate(actPermissions, err)
		}
		for _, p := range page.AllowedPrincipals {
			if arn := awssdk.ToString(p.Principal); arn != "" {
				out = append(out, arn)
			}
		}
		return page.NextToken, nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// ChangePrincipals makes the allow-list of a service contain add and not
// remove, and leaves the rest of it alone. What is so already is not sent:
// AWS takes it badly to remove what is not there. A principal that loses its
// place keeps its accepted connections (AWS); rejecting them is another call.
// With "*" it refuses, for that opens the service to every account.
func (c *Cloud) ChangePrincipals(ctx context.Context, svc postern.ServiceRef, add, remove []string) error {
	cl, err := c.client(svc)
	if err != nil {
		return err
	}
	var es postern.Errors
	for _, p := range add {
		es.Add(postern.CheckPrincipalARN("principal", p))
		if slices.Contains(remove, p) {
			es.Add(postern.Invalid("principal", p, "to be added and removed at once", "choose one"))
		}
	}
	if err := es.Err(); err != nil {
		return err
	}
	have, err := c.Principals(ctx, svc)
	if err != nil {
		return err
	}
	add = without(add, func(p string) bool { return slices.Contains(have, p) })
	remove = without(remove, func(p string) bool { return !slices.Contains(have, p) })
	// Removals first: when the second call fails, fewer are allowed, not more.
	err = inBatches(remove, principalBatch, func(batch []string) error {
		return c.modifyPermissions(ctx, cl, &ec2.ModifyVpcEndpointServicePermissionsInput{ServiceId: awssdk.String(svc.ID), RemoveAllowedPrincipals: batch})
	})
	if err != nil {
		return err
	}
	return inBatches(add, principalBatch, func(batch []string) error {
		return c.modifyPermissions(ctx, cl, &ec2.ModifyVpcEndpointServicePermissionsInput{ServiceId: awssdk.String(svc.ID), AddAllowedPrincipals: batch})
	})
}

func (c *Cloud) modifyPermissions(ctx context.Context, cl *ec2.Client, in *ec2.ModifyVpcEndpointServicePermissionsInput) error {
	if _, err := cl.ModifyVpcEndpointServicePermissions(ctx, in); err != nil {
		return translate(actModifyPermissions, err)
	}
	c.log.LogAttrs(ctx, slog.LevelInfo, "changed the allowed principals of an endpoint service",
		slog.String("service", awssdk.ToString(in.ServiceId)),
		slog.Any("added", in.AddAllowedPrincipals), slog.Any("removed", in.RemoveAllowedPrincipals))
	return nil
}

// without returns the distinct values that drop does not drop, in order.
func without(values []string, drop func(string) bool) []string {
	out := slices.DeleteFunc(slices.Clone(values), drop)
	slices.Sort(out)
	return slices.Compact(out)
}
