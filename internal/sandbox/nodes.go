package sandbox

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/serve"
	"github.com/postern-net/postern/internal/strictyaml"
)

// The ingress nodes: each has a door in every region, and both are targets of
// every region's load balancer.
const (
	nodeA = "node-a"
	nodeB = "node-b" // its link to the control plane can be cut
)

// nodeIDs lists the nodes.
func nodeIDs() []string { return []string{nodeA, nodeB} }

// node is a node of the data plane: a process of its own, as far as the product
// knows.
type node struct {
	id       string
	config   string // file
	run      func(ctx context.Context, config string) (stop func(), err error)
	adminURL string
	link     *gate

	mu   sync.Mutex
	stop func() // nil while it is stopped
}

// openNodes gives each node a token and a config file, and runs it.
func (s *Sandbox) openNodes(ctx context.Context) error {
	for _, id := range nodeIDs() {
		n, err := s.layNode(ctx, id, s.ingressRole(id))
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		s.nodes[id] = n
	}
	s.stops = append(s.stops, s.stopNodes) // their last reports still pass the gates
	for _, id := range nodeIDs() {
		if err := s.StartNode(ctx, id); err != nil {
			return err
		}
	}
	for _, id := range nodeIDs() {
		if err := s.awaitNode(ctx, s.nodes[id]); err != nil {
			return err
		}
	}
	return nil
}

// layNode writes what an operator would write for a node; role fills in what
// is its role's.
func (s *Sandbox) layNode(ctx context.Context, id string, role func(*serve.Config)) (*node, error) {
	admin, err := loopbackPort(ctx)
	if err != nil {
		return nil, err
	}
	link, err := openGate(ctx, s.api)
	if err != nil {
		return nil, err
	}
	s.stops = append(s.stops, link.close)
	n := &node{id: id, config: s.path(id + ".yaml"), adminURL: "http://" + admin.String(), link: link, run: s.serve}
	if err := s.makeToken(ctx, s.tokenFile(id), client.TokenSpec{Name: id, Role: "node"}); err != nil {
		return nil, err
	}
	c := serve.Config{
		Platform: s.path("platform.yaml"), StateDir: s.path(id),
		Node:  serve.Node{ID: id, ControlURL: "http://" + link.addr().String(), TokenFile: s.tokenFile(id)},
		Admin: serve.Admin{Listen: admin}, ProbeBackends: time.Second,
		AccessLog: s.path("access.log"), // all append whole lines
		Log:       serve.Log{Format: "text", Level: "info"}, ShutdownTimeout: shutdownTimeout,
	}
	role(&c)
	if id == nodeA {
		if err := s.laySCIM(&c); err != nil {
			return nil, err
		}
	}
	config, err := strictyaml.Encode(c)
	if err != nil {
		return nil, err
	}
	return n, writeFile(n.config, config)
}

// ingressRole gives a node a door in every region.
func (s *Sandbox) ingressRole(id string) func(*serve.Config) {
	return func(c *serve.Config) {
		c.Roles = []string{serve.RoleIngress}
		at := s.places.nodes[id]
		for _, r := range s.platform.RegionIDs() {
			c.Ingress = append(c.Ingress, serve.Ingress{
				Region: r, Private: netip.AddrPortFrom(at.private[r], s.httpsPort), Public: netip.AddrPortFrom(at.public[r], s.httpsPort),
			})
		}
	}
}

// awaitNode waits until a node has routes in force, or knows that it is fenced:
// a person may have fenced it before an earlier stop.
func (s *Sandbox) awaitNode(ctx context.Context, n *node) error {
	if status, err := s.admin.Node(ctx, n.id); err == nil && status.Status.State == "fenced" {
		s.note(n.id + " is fenced and refuses everything; postern node unfence " + n.id + " lets it serve again")
		return nil
	}
	return s.awaitReady(ctx, n.id, n.adminURL)
}

func (s *Sandbox) node(id string) (*node, error) {
	n, ok := s.nodes[id]
	if !ok {
		return nil, fmt.Errorf("the sandbox has no node %s", id)
	}
	return n, nil
}

// StartNode runs a node that was stopped; one that runs stays as it is. When it
// returns, the node's doors are open with the routes that it had last.
func (s *Sandbox) StartNode(ctx context.Context, id string) error {
	n, err := s.node(id)
	if err != nil {
		return err
	}
	return n.start(ctx)
}

func (n *node) start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stop != nil {
		return nil
	}
	stop, err := n.run(ctx, n.config)
	if err != nil {
		return fmt.Errorf("%s: %w", n.id, err)
	}
	n.stop = stop
	return nil
}

// halt stops it as a signal would; one that is stopped stays so.
func (n *node) halt() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
}

// StopNode stops a node as a signal would; one that is stopped stays so.
func (s *Sandbox) StopNode(id string) error {
	n, err := s.node(id)
	if err != nil {
		return err
	}
	n.halt()
	return nil
}

// stopNodes stops all nodes, side by side.
func (s *Sandbox) stopNodes() {
	var stopping sync.WaitGroup
	for id := range s.nodes {
		stopping.Go(func() {
			_ = s.StopNode(id) // it is one of ours
		})
	}
	stopping.Wait()
}

// CutLink parts a node from the control plane: open connections are reset, and
// new ones end at once. The node goes on with what it last knew.
func (s *Sandbox) CutLink(id string) error { return s.setLink(id, false) }

// RestoreLink undoes CutLink.
func (s *Sandbox) RestoreLink(id string) error { return s.setLink(id, true) }

func (s *Sandbox) setLink(id string, open bool) error {
	n, err := s.node(id)
	if err != nil {
		return err
	}
	n.link.set(open)
	return nil
}
