package aws

import (
	"context"
	"fmt"
	"slices"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/postern-net/postern"
)

const (
	pageSize       = 1000 // the most that AWS gives at once
	maxPages       = 1000 // a listing that has no end is an error, not a loop
	filterValues   = 100  // AWS takes at most 200 in one filter
	actDescribe    = "ec2:DescribeVpcEndpointConnections"
	actPermissions = "ec2:DescribeVpcEndpointServicePermissions"
)

// Connections lists every endpoint connection of a service, ordered by
// endpoint ID: all of them, or an error. An endpoint that was created a moment
// ago may be missing, and one that is gone may linger (eventual consistency):
// absence from one listing is no proof of deletion.
func (c *Cloud) Connections(ctx context.Context, svc postern.ServiceRef) ([]postern.Connection, error) {
	return c.describe(ctx, svc, nil)
}

// FindConnections finds the connections of some endpoints to a service, by
// endpoint ID, in one listing for every hundred: what AWS does not list is not
// in it, with the same reservation as for [Cloud.Connections].
func (c *Cloud) FindConnections(ctx context.Context, svc postern.ServiceRef, endpointIDs []string) (map[string]postern.Connection, error) {
	var es postern.Errors
	for _, id := range endpointIDs {
		es.Add(postern.CheckVPCEndpointID("vpc_endpoint_id", id))
	}
	if err := es.Err(); err != nil {
		return nil, err
	}
	return c.describeIDs(ctx, svc, endpointIDs)
}

// describeIDs finds the connections of some endpoints, by endpoint ID. The
// filter saves reading thousands of rows; where AWS does not take it, all are
// read.
func (c *Cloud) describeIDs(ctx context.Context, svc postern.ServiceRef, ids []string) (map[string]postern.Connection, error) {
	found := make(map[string]postern.Connection, len(ids))
	keep := func(cs []postern.Connection) {
		for _, conn := range cs {
			if slices.Contains(ids, conn.EndpointID) {
				found[conn.EndpointID] = conn
			}
		}
	}
	err := inBatches(ids, filterValues, func(batch []string) error {
		cs, err := c.describe(ctx, svc, batch)
		keep(cs)
		return err
	})
	if hasCode(err, "InvalidFilter") {
		var cs []postern.Connection
		cs, err = c.describe(ctx, svc, nil)
		keep(cs)
	}
	return found, err
}

func (c *Cloud) describe(ctx context.Context, svc postern.ServiceRef, ids []string) ([]postern.Connection, error) {
	cl, err := c.client(svc)
	if err != nil {
		return nil, err
	}
	in := &ec2.DescribeVpcEndpointConnectionsInput{
		MaxResults: awssdk.Int32(pageSize),
		Filters:    []types.Filter{{Name: awssdk.String("service-id"), Values: []string{svc.ID}}},
	}
	if len(ids) > 0 {
		in.Filters = append(in.Filters, types.Filter{Name: awssdk.String("vpc-endpoint-id"), Values: ids})
	}
	var out []postern.Connection
	err = everyPage(actDescribe, func(token *string) (*string, error) {
		in.NextToken = token
		page, err := cl.DescribeVpcEndpointConnections(ctx, in)
		if err != nil {
			return nil, translate(actDescribe, err)
		}
		for _, w := range page.VpcEndpointConnections {
			// Whatever the filter did: never act on another service's rows.
			if awssdk.ToString(w.ServiceId) == svc.ID && awssdk.ToString(w.VpcEndpointId) != "" {
				out = append(out, connection(svc, w))
			}
		}
		return page.NextToken, nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b postern.Connection) int { return strings.Compare(a.EndpointID, b.EndpointID) })
	return out, nil
}

// everyPage follows the tokens of a listing. A repeated token is an error,
// because a listing that stops early looks like deletions.
func everyPage(action string, page func(token *string) (next *string, err error)) error {
	var token *string
	for range maxPages {
		next, err := page(token)
		switch {
		case err != nil:
			return err
		case awssdk.ToString(next) == "":
			return nil
		case awssdk.ToString(next) == awssdk.ToString(token):
			return fmt.Errorf("%w: the same page token came twice", unavailable(action))
		}
		token = next
	}
	return fmt.Errorf("%w: more than %d pages", unavailable(action), maxPages)
}

func connection(svc postern.ServiceRef, w types.VpcEndpointConnection) postern.Connection {
	conn := postern.Connection{
		EndpointID:     awssdk.ToString(w.VpcEndpointId),
		ServiceID:      svc.ID,
		ServiceRegion:  svc.Region,
		EndpointRegion: awssdk.ToString(w.VpcEndpointRegion),
		Owner:          awssdk.ToString(w.VpcEndpointOwner),
		State:          connectionState(string(w.VpcEndpointState)),
		CreatedAt:      awssdk.ToTime(w.CreationTimestamp).UTC(),
	}
	if conn.EndpointRegion == "" { // answers from before cross-region access existed
		conn.EndpointRegion = svc.Region
	}
	for _, d := range w.DnsEntries {
		if name := awssdk.ToString(d.DnsName); name != "" {
			conn.DNSNames = append(conn.DNSNames, name)
		}
	}
	return conn
}

// knownStates are spelled as the wire spells them for interface endpoints. The
// SDK's constants, and other endpoint types, have them in Pascal case.
var knownStates = []postern.ConnectionState{
	postern.ConnectionPendingAcceptance, postern.ConnectionPending, postern.ConnectionAvailable, postern.ConnectionDeleting,
	postern.ConnectionDeleted, postern.ConnectionRejected, postern.ConnectionFailed, postern.ConnectionExpired,
}

// connectionState normalizes the spelling of a state; one that is not known
// keeps its name, in lower camel case.
func connectionState(v string) postern.ConnectionState {
	for _, s := range knownStates {
		if strings.EqualFold(v, string(s)) {
			return s
		}
	}
	if v == "" {
		return ""
	}
	return postern.ConnectionState(strings.ToLower(v[:1]) + v[1:])
}
