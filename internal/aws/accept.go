package aws

import (
	"context"
	"log/slog"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/postern-net/postern"
)

// decisionBatch bounds one Accept or Reject, whose token buckets are small
// (10, refilled by one a second: AWS, "Request throttling for the EC2 API").
const decisionBatch = 25

// decision is accepting or rejecting: how AWS is told, and what a connection's
// state means for it.
type decision struct {
	action string // IAM action
	done   []postern.ConnectionState
	open   []postern.ConnectionState // states in which AWS can be told
	absent bool                      // a connection that is gone is as decided
	send   func(ctx context.Context, cl *ec2.Client, service *string, ids []string) ([]types.UnsuccessfulItem, error)
}

// Accept lets connections carry traffic. AWS only starts with it: the state
// goes from pendingAcceptance to pending to available. Whatever is on that way
// already is not sent again.
//
// The map has an error for each endpoint that is not accepted; AWS answers a
// batch in which some fail as a success. When the error is not nil, the
// endpoints without an entry may or may not be accepted: observe and call
// again.
func (c *Cloud) Accept(ctx context.Context, svc postern.ServiceRef, endpointIDs []string) (map[string]error, error) {
	return c.decide(ctx, svc, endpointIDs, decision{
		action: "ec2:AcceptVpcEndpointConnections",
		done:   []postern.ConnectionState{postern.ConnectionPending, postern.ConnectionAvailable},
		open:   []postern.ConnectionState{postern.ConnectionPendingAcceptance},
		send: func(ctx context.Context, cl *ec2.Client, service *string, ids []string) ([]types.UnsuccessfulItem, error) {
			out, err := cl.AcceptVpcEndpointConnections(ctx, &ec2.AcceptVpcEndpointConnectionsInput{ServiceId: service, VpcEndpointIds: ids})
			if err != nil {
				return nil, err
			}
			return out.Unsuccessful, nil
		},
	})
}

// Reject cuts connections off, accepted ones too. What is rejected, or gone,
// already is not sent again. The results are as those of [Cloud.Accept].
func (c *Cloud) Reject(ctx context.Context, svc postern.ServiceRef, endpointIDs []string) (map[string]error, error) {
	return c.decide(ctx, svc, endpointIDs, decision{
		action: "ec2:RejectVpcEndpointConnections",
		done: []postern.ConnectionState{
			postern.ConnectionRejected, postern.ConnectionDeleting, postern.ConnectionDeleted,
			postern.ConnectionFailed, postern.ConnectionExpired,
		},
		open:   []postern.ConnectionState{postern.ConnectionPendingAcceptance, postern.ConnectionPending, postern.ConnectionAvailable},
		absent: true,
		send: func(ctx context.Context, cl *ec2.Client, service *string, ids []string) ([]types.UnsuccessfulItem, error) {
			out, err := cl.RejectVpcEndpointConnections(ctx, &ec2.RejectVpcEndpointConnectionsInput{ServiceId: service, VpcEndpointIds: ids})
			if err != nil {
				return nil, err
			}
			return out.Unsuccessful, nil
		},
	})
}

func (c *Cloud) decide(ctx context.Context, svc postern.ServiceRef, endpointIDs []string, d decision) (map[string]error, error) {
	failed := map[string]error{}
	cl, err := c.client(svc)
	if err != nil {
		return failed, err
	}
	// One malformed ID would fail the whole batch.
	ids := without(endpointIDs, func(id string) bool {
		e := postern.CheckVPCEndpointID("vpc_endpoint_id", id)
		if e != nil {
			failed[id] = e
		}
		return e != nil
	})
	if len(ids) == 0 {
		return failed, nil
	}
	observed, err := c.describeIDs(ctx, svc, ids)
	if err != nil {
		return failed, err
	}
	var open []string
	for _, id := range ids {
		switch e := d.judge(id, observed); {
		case e != nil:
			failed[id] = e
		case slices.Contains(d.open, observed[id].State):
			open = append(open, id)
		}
	}
	var refused []types.UnsuccessfulItem
	err = inBatches(open, decisionBatch, func(batch []string) error {
		items, err := d.send(ctx, cl, awssdk.String(svc.ID), batch)
		if err != nil {
			return translate(d.action, err)
		}
		c.log.LogAttrs(ctx, slog.LevelInfo, "decided on endpoint connections", slog.String("action", d.action),
			slog.String("service", svc.ID), slog.Any("endpoints", batch), slog.Int("unsuccessful", len(items)))
		refused = append(refused, items...)
		return nil
	})
	c.recheck(ctx, svc, d, refused, failed)
	return failed, err
}

// recheck looks again at what AWS did not do: somebody else may have done it
// between observing and asking, and then it is no failure.
func (c *Cloud) recheck(ctx context.Context, svc postern.ServiceRef, d decision, refused []types.UnsuccessfulItem, failed map[string]error) {
	if len(refused) == 0 {
		return
	}
	ids := make([]string, 0, len(refused))
	for _, item := range refused {
		id := awssdk.ToString(item.ResourceId)
		ids = append(ids, id)
		failed[id] = itemError(d.action, item)
	}
	observed, err := c.describeIDs(ctx, svc, ids)
	if err != nil {
		return // AWS's refusal of each endpoint is what there is to tell
	}
	for _, id := range ids {
		conn, listed := observed[id]
		if slices.Contains(d.done, conn.State) || (!listed && d.absent) {
			delete(failed, id)
		}
	}
}

// judge tells why a connection's state cannot be decided, or nil.
func (d decision) judge(id string, observed map[string]postern.Connection) *postern.Error {
	conn, listed := observed[id]
	switch {
	case !listed && d.absent, slices.Contains(d.done, conn.State), slices.Contains(d.open, conn.State):
		return nil
	case !listed:
		return &postern.Error{
			Code: postern.CodeNotFound, Field: "vpc_endpoint_id", Value: id, Message: "AWS lists no connection of this endpoint to the service",
			Fix: "check the endpoint's ID and service; one created a moment ago appears within minutes",
		}
	default:
		return &postern.Error{
			Code: postern.CodeConflict, Field: "vpc_endpoint_id", Value: id, Message: "the connection is " + string(conn.State) + " at AWS, from where there is no way back",
			Fix: "create a new endpoint and claim that",
		}
	}
}

// itemError translates one entry of Unsuccessful.
func itemError(action string, item types.UnsuccessfulItem) error {
	id, code, message := awssdk.ToString(item.ResourceId), "no code", ""
	if item.Error != nil {
		code, message = awssdk.ToString(item.Error.Code), awssdk.ToString(item.Error.Message)
	}
	e := apiError(action, code, 0)
	if e.Code == postern.CodeInternal {
		e.Code = postern.CodeConflict // AWS says that the endpoint's state does not allow it
		e.Message = "AWS did not do it for this endpoint (" + code + ")"
	}
	e.Field, e.Value = "vpc_endpoint_id", id
	return &refusal{domain: e, message: message}
}

// refusal is an entry of Unsuccessful: the domain's error with AWS's text
// behind it, for the log.
type refusal struct {
	domain  *postern.Error
	message string
}

func (r *refusal) Error() string { return r.domain.Error() + ": " + r.message }
func (r *refusal) Unwrap() error { return r.domain }
