package localaws

import (
	"errors"
	"hash/fnv"
	"net/netip"

	"github.com/postern-net/postern/internal/localaws/eni"
	"github.com/postern-net/postern/internal/proxyproto"
)

// fabric is the data path: the open listeners, one for each port of each
// network interface of each available endpoint. The server's mutex guards it.
type fabric struct {
	server *Server
	open   map[interfacePort]*openPort
}

type interfacePort struct {
	endpoint string
	addr     netip.AddrPort
}

type openPort struct {
	loadBalancer string // an interface sticks to the one of its first use
	listener     *eni.Listener
}

// sync opens and closes listeners until they are those of the state. It
// returns what could not be opened, by endpoint.
func (f *fabric) sync(st *state) map[string]error {
	type plan struct {
		lb       LoadBalancer
		listener LoadListener
		zone     string
	}
	want := map[interfacePort]plan{}
	for id, e := range st.Endpoints {
		if e.State != stateAvailable {
			continue
		}
		svc := st.Services[e.ServiceID]
		if svc == nil {
			continue
		}
		for _, n := range e.Interfaces {
			lb := f.balancer(svc, n, id)
			for _, ln := range lb.Listeners {
				want[interfacePort{id, netip.AddrPortFrom(n.Address, ln.Port)}] = plan{lb, ln, n.ZoneID}
			}
		}
	}
	for key, o := range f.open {
		if _, ok := want[key]; !ok {
			o.listener.Close()
			delete(f.open, key)
		}
	}
	failed := map[string]error{}
	for key, p := range want {
		if f.open[key] != nil {
			continue
		}
		l, err := f.listen(key, p.lb, p.listener, p.zone)
		if err != nil {
			failed[key.endpoint] = errors.Join(failed[key.endpoint], err)
			continue
		}
		f.open[key] = &openPort{loadBalancer: p.lb.ARN, listener: l}
	}
	return failed
}

// balancer chooses an interface's load balancer: the one it has, or one of
// those in its zone, or any (AWS: cross-region access).
func (f *fabric) balancer(svc *service, n netInterface, endpoint string) LoadBalancer {
	var near, all []LoadBalancer
	for _, arn := range svc.LoadBalancers {
		lb, ok := f.server.world.loadBalancer(arn)
		if !ok {
			continue
		}
		all = append(all, lb)
		for _, node := range lb.Nodes {
			if node.ZoneID == n.ZoneID {
				near = append(near, lb)
			}
		}
		for _, ln := range lb.Listeners {
			if o := f.open[interfacePort{endpoint, netip.AddrPortFrom(n.Address, ln.Port)}]; o != nil && o.loadBalancer == arn {
				return lb
			}
		}
	}
	if len(near) > 0 {
		all = near
	}
	if len(all) == 0 {
		return LoadBalancer{}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(n.ID))                // never fails
	return all[int(h.Sum32()%uint32(len(all)))] //nolint:gosec // a handful
}

func (f *fabric) listen(key interfacePort, lb LoadBalancer, ln LoadListener, zone string) (*eni.Listener, error) {
	source := lb.Nodes[0].Address
	for _, n := range lb.Nodes {
		if n.ZoneID == zone {
			source = n.Address
		}
	}
	s := f.server
	header := func(dst []byte, client, endpoint netip.AddrPort) []byte {
		return proxyproto.AppendAWS(dst, client, endpoint, key.endpoint)
	}
	if ln.Plain {
		header = func(dst []byte, _, _ netip.AddrPort) []byte { return dst }
	}
	return eni.Listen(s.ctx, eni.Config{
		Addr: key.addr, Targets: ln.Targets, Source: source, Registered: s.registered,
		IdleTimeout: s.cfg.IdleTimeout, Logger: s.log.With("vpc_endpoint_id", key.endpoint),
		Admit:  func(client netip.AddrPort) bool { return s.admits(key.endpoint, client.Addr(), ln.Port) },
		Header: header,
	})
}

func (f *fabric) close() {
	for key, o := range f.open {
		o.listener.Close()
		delete(f.open, key)
	}
}

// admits decides on a new connection to an endpoint: from within its VPC only,
// and only as its security groups say at this moment.
func (s *Server) admits(endpointID string, client netip.Addr, port uint16) bool {
	st := s.state.Load()
	e := st.Endpoints[endpointID]
	if e == nil {
		return false
	}
	v, ok := s.world.vpc(e.VPC)
	if !ok || !v.CIDR.Contains(client) {
		return false
	}
	for _, id := range e.Groups {
		g := st.Groups[id]
		if g == nil {
			continue
		}
		for _, r := range g.Rules {
			if r.admits(client, port, v) {
				return true
			}
		}
	}
	return false
}

// admits tells whether a rule lets TCP from a host of the VPC to a port.
func (r ingressRule) admits(client netip.Addr, port uint16, v VPC) bool {
	switch r.Protocol {
	case "-1":
	case "tcp":
		if r.From != -1 && (int(port) < r.From || int(port) > r.To) {
			return false
		}
	default:
		return false
	}
	if r.Group != "" {
		return v.inGroup(client, r.Group)
	}
	return r.CIDR.IsValid() && r.CIDR.Contains(client)
}

// Deregister takes a target out of every load balancer: it gets no new
// connections, and keeps those it has. (At AWS that is the target group's API,
// which nobody here speaks.)
func (s *Server) Deregister(target netip.AddrPort) { s.deregistered.Store(target, true) }

// Register puts a target that was deregistered back.
func (s *Server) Register(target netip.AddrPort) { s.deregistered.Delete(target) }

func (s *Server) registered(target netip.AddrPort) bool {
	_, out := s.deregistered.Load(target)
	return !out
}
