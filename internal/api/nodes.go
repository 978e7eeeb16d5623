package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

func (s *Server) nodeRoutes() {
	route(s, spec{id: "list-nodes", method: http.MethodGet, path: "/v1/nodes", roles: operators, summary: "List the data plane's nodes"}, s.listNodes)
	route(s, spec{id: "get-node", method: http.MethodGet, path: "/v1/nodes/{id}", roles: operators, summary: "Get a node"}, s.getNode)
	route(s, spec{id: "fence-node", method: http.MethodPost, path: "/v1/nodes/{id}/fence", roles: operators, summary: "Stop waiting for a node: the caller asserts that it is out of its target group and past its drain"}, s.fenceNode)
	route(s, spec{id: "unfence-node", method: http.MethodPost, path: "/v1/nodes/{id}/unfence", roles: operators, summary: "Let a node serve again that was told of its fence, and wait for it again"}, s.unfenceNode)
	route(s, spec{id: "delete-node", method: http.MethodDelete, path: "/v1/nodes/{id}", roles: operators, status: http.StatusNoContent, summary: "Forget a fenced node"}, s.deleteNode)
	s.linkRoutes()
}

func wireNode(n postern.Node, now time.Time, revision int64) client.Node {
	return client.Node{
		ID: n.ID, ResourceVersion: strconv.FormatInt(n.ResourceVersion, 10),
		Status: client.NodeStatus{
			State: string(n.State(now, revision)), Regions: append([]string{}, n.Regions...), Version: n.Version, BootID: n.BootID,
			AppliedRevision: n.AppliedRevision, CurrentRevision: revision, RegisteredAt: n.RegisteredAt, LastSeen: n.LastSeen,
			Fenced: n.Fenced, FencedBy: n.FencedBy, FencedAt: n.FencedAt,
		},
	}
}

func (s *Server) listNodes(ctx context.Context, _ postern.Identity, in *struct{ Paging }) (*body[client.Page[client.Node]], error) {
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	out := &body[client.Page[client.Node]]{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		revision, err := tx.RoutesRevision()
		if err != nil {
			return err
		}
		rows, err := tx.ListNodes(page)
		out.Body.Items, out.Body.NextPageToken = cut(in.Paging, rows, func(n postern.Node) string { return n.ID },
			func(n postern.Node) client.Node { return wireNode(n, s.Now(), revision) })
		return err
	})
}

func (s *Server) getNode(ctx context.Context, _ postern.Identity, in *ByID) (*versioned[client.Node], error) {
	out := &versioned[client.Node]{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		n, err := tx.FindNode(in.ID)
		if err != nil {
			return err
		}
		return s.answerNode(tx, n, out)
	})
}

func (s *Server) answerNode(tx *store.Tx, n postern.Node, out *versioned[client.Node]) error {
	revision, err := tx.RoutesRevision()
	out.ETag, out.Body = etag(n.ResourceVersion), wireNode(n, s.Now(), revision)
	return err
}

type nodeInput struct {
	ByID
	IfMatch
}

// changeNode finds a node as the caller read it, and has it fenced or not;
// one that is so already stays as it is.
func (s *Server) changeNode(ctx context.Context, in *nodeInput, fenced bool, change func(*store.Tx, postern.Node) (postern.Node, error)) (*versioned[client.Node], error) {
	out := &versioned[client.Node]{}
	return out, s.Store.Update(ctx, func(tx *store.Tx) error {
		n, err := tx.FindNode(in.ID)
		if err != nil {
			return err
		}
		if err := in.check(n.ResourceVersion); err != nil {
			return err
		}
		if n.Fenced != fenced {
			if n, err = change(tx, n); err != nil {
				return err
			}
		}
		return s.answerNode(tx, n, out)
	})
}

func (s *Server) fenceNode(ctx context.Context, id postern.Identity, in *nodeInput) (*versioned[client.Node], error) {
	return s.changeNode(ctx, in, true, func(tx *store.Tx, n postern.Node) (postern.Node, error) {
		n, err := tx.FenceNode(n, id.Name, s.Now())
		if err != nil {
			return n, err
		}
		return n, s.event(tx, id, "node.fenced", "node", n.ID, "", "is not waited for: asserted to be out of its target group and past its drain")
	})
}

func (s *Server) unfenceNode(ctx context.Context, id postern.Identity, in *nodeInput) (*versioned[client.Node], error) {
	return s.changeNode(ctx, in, false, func(tx *store.Tx, n postern.Node) (postern.Node, error) {
		if err := n.MayUnfence(s.Now()); err != nil {
			return n, err
		}
		n, err := tx.UnfenceNode(n)
		if err != nil {
			return n, err
		}
		return n, s.event(tx, id, "node.unfenced", "node", n.ID, "", "may serve, and is waited for again")
	})
}

func (s *Server) deleteNode(ctx context.Context, id postern.Identity, in *deleteInput) (*struct{}, error) {
	return nil, s.Store.Update(ctx, func(tx *store.Tx) error {
		n, err := tx.FindNode(in.ID)
		if err != nil {
			return err
		}
		if err := in.check(n.ResourceVersion); err != nil {
			return err
		}
		if !n.Fenced {
			return &postern.Error{
				Code: postern.CodeConflict, Message: "the node is not fenced: it may serve what it last knew",
				Fix: "take it out of its target group, wait until its drain is past, and fence it first",
			}
		}
		if err := tx.DeleteNode(n); err != nil {
			return err
		}
		return s.event(tx, id, "node.removed", "node", n.ID, "", "forgotten")
	})
}
