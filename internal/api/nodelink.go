package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/nodelink"
	"github.com/postern-net/postern/internal/store"
)

// Hub is what the nodes' streams need.
type Hub interface {
	// Stream sends what leads from a revision to the current routes, and then
	// each new one, until ctx ends or send fails; it returns that error.
	Stream(ctx context.Context, have int64, send func(nodelink.Message) error) error
	// Knows tells whether a table of this revision and checksum was made here.
	Knows(revision int64, sum string) bool
}

// nodes may call what links a node; which node it is, the token's name says.
var nodes = []postern.Role{postern.RoleNode}

const (
	// maxReport bounds a report's body, in bytes: 2,000 kinds of arrivals.
	maxReport = 4 << 20
	// linkWrite bounds the writing of one message to a node, a snapshot over
	// a slow link included.
	linkWrite = 30 * time.Second
)

func (s *Server) linkRoutes() {
	route(s, spec{id: "register-node", method: http.MethodPost, path: "/v1/nodelink/registrations", roles: nodes, summary: "A node introduces itself, before anything else"}, s.registerNode)
	route(s, spec{
		id: "report-node", method: http.MethodPost, path: "/v1/nodelink/reports", roles: nodes, status: http.StatusNoContent, maxBody: maxReport,
		summary: "A node tells what is in force there and who arrived; a report that was taken before changes nothing",
	}, s.reportNode)
	route(s, spec{
		id: "report-clusters", method: http.MethodPost, path: "/v1/nodelink/clusters", roles: nodes, status: http.StatusNoContent,
		summary: "What an egress node found when it looked at the clusters of its regions",
	}, s.reportClusters)
	op := s.operation(spec{id: "watch-routes", method: http.MethodGet, path: "/v1/nodelink/routes", roles: nodes, summary: "The routes for a registered node, as they change: one JSON message a line"})
	op.Responses = map[string]*huma.Response{"200": {
		Description: "A stream of messages: a snapshot or deltas, each new delta, and a ping where nothing is new",
		Content:     map[string]*huma.MediaType{"application/x-ndjson": {Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[nodelink.Message](), true, "Message")}},
	}}
	huma.Register(s.api, op, func(ctx context.Context, in *routesInput) (*huma.StreamResponse, error) {
		id := identityOf(ctx)
		if err := s.linked(ctx, id.Name, in.BootID); err != nil {
			return nil, s.problem(ctx, err)
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			s.streamRoutes(hc.Context(), id.Name, in, stream{w: w, rc: http.NewResponseController(w)}, r.Header.Get("Authorization"))
		}}, nil
	})
}

// itself refuses a node that speaks for another.
func itself(id postern.Identity, node string) error {
	if id.Name == node {
		return nil
	}
	return &postern.Error{
		Code: postern.CodeForbidden, Field: "id", Value: node, Message: "the token is of node " + id.Name,
		Fix: "give each node a token of its own whose name is the node's ID",
	}
}

func (s *Server) registerNode(ctx context.Context, id postern.Identity, in *struct{ Body client.NodeRegistration }) (*versioned[client.Node], error) {
	n := postern.Node{
		ID: in.Body.ID, Regions: in.Body.Regions, Egress: in.Body.EgressRegions, Version: in.Body.Version, BootID: in.Body.BootID,
		AppliedRevision: in.Body.AppliedRevision, LastSeen: s.Now(),
	}
	foreign := n.AppliedRevision > 0 && !s.Hub.Knows(n.AppliedRevision, in.Body.AppliedSum)
	if err := itself(id, n.ID); err != nil {
		return nil, err
	}
	if err := n.Validate(); err != nil {
		return nil, err
	}
	for i, r := range n.Regions {
		if _, _, ok := s.Platform.Region(r); !ok && !slices.Contains(s.Platform.Outbound.Regions, r) {
			return nil, postern.Invalid(fmt.Sprintf("regions[%d]", i), r, "not a region of the platform", "use one of "+strings.Join(append(s.Platform.RegionIDs(), s.Platform.Outbound.Regions...), ", "))
		}
	}
	out := &versioned[client.Node]{}
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		if foreign {
			if err := s.lead(tx, id, n.AppliedRevision, in.Body.AppliedSum); err != nil {
				return err
			}
			n.AppliedRevision = 0
		}
		before, err := tx.FindNode(n.ID)
		if err != nil && postern.CodeOf(err) != postern.CodeNotFound {
			return err
		}
		stored, news, err := tx.UpsertNode(n)
		if err != nil {
			return err
		}
		if news {
			if err := s.event(tx, id, "node.registered", "node", n.ID, "", "a process of version "+n.Version+" for "+strings.Join(stored.Regions, ", ")); err != nil {
				return err
			}
		}
		if err := s.trustEgress(tx, id, before, stored); err != nil {
			return err
		}
		return s.answerNode(tx, stored, out)
	})
	var e *postern.Error
	if errors.As(err, &e) && e.Field == postern.FieldFenced { // it is told so with this answer
		if err := s.Store.Update(ctx, func(tx *store.Tx) error { return tx.SeeFencedNode(n.ID, s.Now()) }); err != nil {
			return nil, err
		}
	}
	return out, err
}

// trustEgress tells of a node that is the egress of a region from now on, which
// it alone says: what it finds of the clusters there is believed, and connections
// are not taken down before it obeys that.
func (s *Server) trustEgress(tx *store.Tx, id postern.Identity, before, after postern.Node) error {
	more := slices.DeleteFunc(slices.Clone(after.Regions), func(r string) bool { return before.Exits(r) || !after.Exits(r) })
	if len(more) == 0 {
		return nil
	}
	return s.event(tx, id, "node.egress", "node", after.ID, "", "by what it says it is, or may be, the egress of "+strings.Join(more, ", ")+
		", so that what it finds of customers' clusters there is believed; if it should not be, fence it, and revoke its token when it was told (`postern node fence "+after.ID+"`, `postern node list`, `postern token revoke`)")
}

// maxLead bounds how far a node may be ahead: it does not number the tables.
const maxLead = 1 << 32

// lead numbers the routes on from what a node obeys when this control plane did
// not make that: a node ignores what is not newer, and its database was restored
// from a backup. What cutovers waited for the nodes to obey has another number
// then.
func (s *Server) lead(tx *store.Tx, id postern.Identity, applied int64, sum string) error {
	routes, err := tx.FindRoutes()
	if err != nil {
		return err
	}
	switch {
	case applied < routes.Revision, applied == routes.Revision && sum == nodelink.Sum(routes):
		return nil // it gets the current table, which is newer, or has it
	case applied-routes.Revision > maxLead:
		return postern.Invalid("applied_revision", strconv.FormatInt(applied, 10), "further ahead than any control plane of this node can have been", "remove the node's routes.json and start it again")
	}
	routes.Revision = applied + 1
	return errors.Join(tx.SaveRoutes(routes), tx.ForgetEnforceRevisions(), s.event(tx, id, "routes.led", "node", id.Name, "",
		fmt.Sprintf("the node obeys a table of revision %d that this control plane did not make, as after a restore of its database; the next one is of revision %d", applied, routes.Revision)))
}

func (s *Server) reportNode(ctx context.Context, id postern.Identity, in *struct{ Body client.NodeReport }) (*struct{}, error) {
	r := postern.NodeReport{Node: in.Body.ID, BootID: in.Body.BootID, Seq: in.Body.Seq, AppliedRevision: in.Body.AppliedRevision}
	shift := s.clockOf(in.Body.SentAt)
	for _, a := range in.Body.Arrivals {
		a.FirstSeen, a.LastSeen = shift(a.FirstSeen), shift(a.LastSeen)
		if a.FirstSeen.After(a.LastSeen) { // its clock was set back meanwhile
			a.FirstSeen = a.LastSeen
		}
		r.Arrivals = append(r.Arrivals, postern.ArrivalCount{
			Region: a.Region, Listener: a.Listener, EndpointID: a.VPCEndpointID, Source: a.Source, ServerName: a.ServerName,
			Denial: postern.Denial(a.Reason), Organization: a.Organization, Count: a.Count, FirstSeen: a.FirstSeen, LastSeen: a.LastSeen, JA4: a.JA4,
		})
	}
	if err := itself(id, r.Node); err != nil {
		return nil, err
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	foreign := r.AppliedRevision > 0 && !s.Hub.Knows(r.AppliedRevision, in.Body.AppliedSum)
	return nil, s.Store.Update(ctx, func(tx *store.Tx) error {
		n, err := tx.FindNode(r.Node)
		if err != nil {
			return err
		}
		if foreign {
			if err := s.lead(tx, id, r.AppliedRevision, in.Body.AppliedSum); err != nil {
				return err
			}
			r.AppliedRevision = 0 // what it obeys is not what was asked of it
		}
		for i, a := range r.Arrivals {
			if !slices.Contains(n.Regions, a.Region) {
				return postern.Invalid(fmt.Sprintf("arrivals[%d].region", i), a.Region, "not a region that the node registered for", "register again with all regions")
			}
		}
		_, err = tx.ReportNode(r, s.Now())
		return err
	})
}

// reportClusters takes what an egress node found. One that is about a connection
// that was deleted meanwhile is left out.
func (s *Server) reportClusters(ctx context.Context, id postern.Identity, in *struct{ Body client.ClusterReport }) (*struct{}, error) {
	if err := itself(id, in.Body.ID); err != nil {
		return nil, err
	}
	shift := s.clockOf(in.Body.SentAt)
	var looks []postern.ConnectionLook
	for i, c := range in.Body.Clusters {
		l := postern.ConnectionLook{Connection: c.ConnectionID, Node: in.Body.ID, Of: c.Of, Asked: c.Asked, At: shift(c.LookedAt)}
		for _, f := range c.Findings {
			l.Findings = append(l.Findings, postern.Finding{Reason: postern.Reason(f.Reason), Warning: f.Warning, Message: f.Message})
		}
		if err := l.Validate(fmt.Sprintf("clusters[%d]", i)); err != nil {
			return nil, err
		}
		looks = append(looks, l)
	}
	return nil, s.Store.Update(ctx, func(tx *store.Tx) error {
		n, err := tx.FindNode(in.Body.ID)
		if err != nil {
			return err
		}
		if err := n.Fences(); err != nil {
			return err
		}
		for i, l := range looks {
			c, err := tx.FindConnection(l.Connection)
			switch {
			case err != nil && postern.CodeOf(err) == postern.CodeNotFound:
				continue
			case err != nil:
				return err
			case !n.Exits(c.Region):
				return &postern.Error{
					Code: postern.CodeForbidden, Field: fmt.Sprintf("clusters[%d].connection_id", i), Value: l.Connection,
					Message: "of a region whose egress the node did not register as", Fix: "register again with all regions",
				}
			}
			if err := tx.SaveLook(l); err != nil {
				return err
			}
		}
		return nil
	})
}

// clockOf puts times of a node's clock right, by when it sent its report, and
// lets none be in the future: what was seen tomorrow would be evidence for ever.
func (s *Server) clockOf(sent time.Time) func(time.Time) time.Time {
	now := s.Now()
	return func(t time.Time) time.Time {
		switch {
		case t.IsZero():
			return t
		case !sent.IsZero():
			t = t.Add(now.Sub(sent))
		}
		if t.After(now) {
			return now
		}
		return t
	}
}

type routesInput struct {
	BootID string `query:"boot_id" required:"true" minLength:"8" maxLength:"64" doc:"As registered"`
	Have   int64  `query:"have" minimum:"0" doc:"Revision that the node has; 0: none"`
}

// linked returns why a process may not have the stream of a node, if so: it is
// not the one that registered last, or the node is fenced.
func (s *Server) linked(ctx context.Context, node, boot string) error {
	return s.Store.View(ctx, func(tx *store.Tx) error {
		n, err := tx.FindNode(node)
		switch {
		case err != nil:
			return err
		case n.Fenced:
			return n.Fences()
		case n.BootID != boot:
			return &postern.Error{Code: postern.CodeConflict, Field: postern.FieldBootID, Value: boot, Message: "another process registered as this node since", Fix: "register first"}
		}
		return nil
	})
}

// streamRoutes streams until the node goes, its token or registration ends, it
// is fenced, or the stream has lasted long enough.
func (s *Server) streamRoutes(ctx context.Context, node string, in *routesInput, out stream, authorization string) {
	ctx, stop := context.WithTimeout(ctx, watchLifetime)
	defer stop()
	ctx, end := context.WithCancelCause(ctx)
	var guarding sync.WaitGroup
	defer guarding.Wait()
	defer end(nil)
	if out.openLines() != nil {
		return
	}
	guarding.Go(func() { end(s.guard(ctx, node, in.BootID, authorization)) })
	err := s.Hub.Stream(ctx, in.Have, out.line)
	var e *postern.Error
	if errors.Is(err, context.Canceled) && errors.As(context.Cause(ctx), &e) && e.Field == postern.FieldFenced {
		_ = out.line(nodelink.Message{Fenced: &nodelink.Fence{Reason: e.Message}}) // it hears of it when it registers again
	}
}

// guard returns why a stream that was begun must end.
func (s *Server) guard(ctx context.Context, node, boot, authorization string) error {
	wake, cancel := s.Store.Subscribe()
	defer cancel()
	look := time.NewTicker(watchPing)
	defer look.Stop()
	for {
		if err := s.linked(ctx, node, boot); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		case <-look.C:
			if _, err := s.authenticate(ctx, authorization); err != nil {
				return err
			}
		}
	}
}

// openLines sends the header of a stream of JSON lines.
func (o stream) openLines() error {
	o.w.Header().Set("Content-Type", "application/x-ndjson")
	return o.rc.SetReadDeadline(time.Time{})
}

// line writes a message at once.
func (o stream) line(m nodelink.Message) error {
	b, err := json.Marshal(m) // holds no line break
	if err != nil {
		return err
	}
	return o.writeWithin(string(b)+"\n", linkWrite)
}
