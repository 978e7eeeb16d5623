package localaws

import (
	"slices"
	"strings"
	"time"
)

// ec2Actions are the EC2 actions that the stand-in knows, and no other.
func ec2Actions() map[string]action {
	return map[string]action{
		// The service's side.
		"CreateVpcEndpointServiceConfiguration":    {(*Server).createService, serviceBucket},
		"DescribeVpcEndpointServiceConfigurations": {(*Server).describeServiceConfigurations, readBucket},
		"ModifyVpcEndpointServiceConfiguration":    {(*Server).modifyService, serviceBucket},
		"DeleteVpcEndpointServiceConfigurations":   {(*Server).deleteServices, serviceBucket},
		"ModifyVpcEndpointServicePermissions":      {(*Server).modifyPermissions, writeBucket},
		"DescribeVpcEndpointServicePermissions":    {(*Server).describePermissions, readBucket},
		"DescribeVpcEndpointConnections":           {(*Server).describeConnections, readBucket},
		"AcceptVpcEndpointConnections":             {(*Server).acceptConnections, serviceBucket},
		"RejectVpcEndpointConnections":             {(*Server).rejectConnections, serviceBucket},
		// The endpoint's side.
		"CreateVpcEndpoint":           {(*Server).createEndpoint, endpointBucket},
		"DescribeVpcEndpoints":        {(*Server).describeEndpoints, readBucket},
		"ModifyVpcEndpoint":           {(*Server).modifyEndpoint, endpointBucket},
		"DeleteVpcEndpoints":          {(*Server).deleteEndpoints, endpointBucket},
		"DescribeVpcEndpointServices": {(*Server).describeServices, readBucket},
		// Networks.
		"DescribeVpcs":                  {(*Server).describeVPCs, readBucket},
		"DescribeSubnets":               {(*Server).describeSubnets, readBucket},
		"DescribeAvailabilityZones":     {(*Server).describeZones, readBucket},
		"DescribeNetworkInterfaces":     {(*Server).describeInterfaces, readBucket},
		"CreateSecurityGroup":           {(*Server).createGroup, writeBucket},
		"DeleteSecurityGroup":           {(*Server).deleteGroup, writeBucket},
		"DescribeSecurityGroups":        {(*Server).describeGroups, readBucket},
		"AuthorizeSecurityGroupIngress": {(*Server).authorizeIngress, writeBucket},
		"RevokeSecurityGroupIngress":    {(*Server).revokeIngress, writeBucket},
	}
}

// timestamp is a time as EC2 and Route 53 write it.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// returned is the response of actions that only say that it worked.
type returned struct {
	reply
	Return bool `xml:"return"`
}

func done() *returned { return &returned{Return: true} }

// unsuccessful is the response of batch actions: HTTP 200, with what failed.
type unsuccessful struct {
	reply
	Failed list[failedItem] `xml:"unsuccessful"`
}

type failedItem struct {
	Error struct {
		Code    string `xml:"code"`
		Message string `xml:"message"`
	} `xml:"error"`
	ResourceID string `xml:"resourceId"`
}

func (u *unsuccessful) add(id string, e *apiError) {
	item := failedItem{ResourceID: id}
	item.Error.Code, item.Error.Message = e.Code, e.Message
	u.Failed.Items = append(u.Failed.Items, item)
}

// Tags.

type tag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

func tagList(tags map[string]string) list[tag] {
	out := list[tag]{}
	for k, v := range tags {
		out.Items = append(out.Items, tag{k, v})
	}
	slices.SortFunc(out.Items, func(a, b tag) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// maxTags is AWS's limit for one resource.
const maxTags = 50

// tags reads TagSpecification.N, of which at most one may be given here, for
// the resource type that the action makes.
func (c *call) tags(resourceType string) (map[string]string, error) {
	var out map[string]string
	for _, spec := range c.form.Structs("TagSpecification") {
		if got := spec.String("ResourceType"); got != resourceType {
			return nil, fail("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", got)
		}
		for _, t := range spec.Structs("Tag") {
			key := t.String("Key")
			switch {
			case key == "" || len(key) > 128 || strings.HasPrefix(strings.ToLower(key), "aws:"):
				return nil, fail("InvalidParameterValue", "Tag key '%s' is not valid", key)
			case out == nil:
				out = map[string]string{}
			}
			if _, twice := out[key]; twice {
				return nil, fail("InvalidParameterValue", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
			}
			value := t.String("Value")
			if len(value) > 256 {
				return nil, fail("InvalidParameterValue", "Tag value of '%s' exceeds 256 characters", key)
			}
			out[key] = value
		}
	}
	if len(out) > maxTags {
		return nil, fail("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
	}
	return out, nil
}

// once makes a creating call idempotent by its ClientToken. It returns the
// resource that the token made before, or remembers what create makes. It must
// be called within an update.
func (c *call) once(st *state, create func() (id string, err error)) (string, error) {
	token := c.form.String("ClientToken")
	if token == "" {
		return create()
	}
	if len(token) > 64 {
		return "", fail("InvalidParameterValue", "The ClientToken is longer than 64 characters")
	}
	key := strings.Join([]string{c.caller.account, c.region, c.action, token}, " ")
	digest := c.form.Digest("ClientToken", "DryRun")
	if t, ok := st.Tokens[key]; ok {
		if t.Digest != digest {
			return "", fail("IdempotentParameterMismatch", "The request uses the same client token as a previous, but non-identical request.")
		}
		return t.Resource, nil
	}
	id, err := create()
	if err == nil {
		st.Tokens[key] = clientToken{Digest: digest, Resource: id}
	}
	return id, err
}

// change applies the additions and removals of a modifying action to a list.
func change(have, add, remove []string) []string {
	out := slices.DeleteFunc(slices.Clone(have), func(v string) bool { return slices.Contains(remove, v) })
	for _, v := range add {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}
