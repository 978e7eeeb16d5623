package ingress

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/postern-net/postern"
)

// compile checks the routes and copies them, so that later changes to them
// change nothing here. What it lets pass can be written into a PROXY header.
// What stands in the table before, which may be nil, was checked then.
func compile(r postern.Routes, before *table, now time.Time) (*table, error) {
	if !sound(r, before) {
		if err := check(r); err != nil {
			return nil, err
		}
	}
	c := compiler{
		table: &table{
			revision: r.Revision, hosts: make([]host, 0, len(r.Hosts)), endpoints: make([]grant, 0, len(r.Endpoints)),
			byName: newIndex(len(r.Hosts)), byID: newIndex(len(r.Endpoints)), epoch: now,
		},
		texts: map[string]span{}, lists: map[string]span{},
	}
	if before != nil {
		c.epoch = before.epoch
		c.text = make([]byte, 0, len(before.text)+len(before.text)/8)
	}
	for name, h := range r.Hosts {
		c.addHost(name, h, before, now)
	}
	for id, e := range r.Endpoints {
		c.addGrant(id, e)
	}
	c.table.text = string(c.text)
	return c.table, nil
}

// compiler is a table that is being made.
type compiler struct {
	*table
	text  []byte
	texts map[string]span // of what is used by many: organizations, regions
	lists map[string]span // of backends, by their bytes
	key   []byte
}

func (c *compiler) write(s string) span {
	at := span{uint32(len(c.text)), uint32(len(s))} //nolint:gosec // of 4 GB of names
	c.text = append(c.text, s...)
	return at
}

func (c *compiler) once(s string) span {
	at, ok := c.texts[s]
	if !ok {
		at = c.write(s)
		c.texts[s] = at
	}
	return at
}

func (c *compiler) addHost(name string, r postern.Host, before *table, now time.Time) {
	h := host{name: c.write(name), tenant: c.write(r.Tenant), organization: c.once(r.Organization), public: r.Public, backends: c.list(r.Backends)}
	if r.Drain != (postern.Drain{}) {
		c.drains = append(c.drains, r.Drain)
		h.drain = uint32(len(c.drains)) //nolint:gosec // one per host at most
	}
	// Since when hosts are not public on this node, the table before may know.
	// The node's own clock decides whose connection was open then: one that is
	// behind the control plane's must not let new ones in.
	if before != nil && !r.Public {
		if was, _ := before.host(name); was != nil {
			if h.closed = was.closed; was.public {
				h.closed = max(now.Sub(c.epoch), 1)
			}
		}
	}
	c.byName.add(name, len(c.hosts))
	c.hosts = append(c.hosts, h)
}

// list keeps each list of backends once: most tenants of a region have the
// same.
func (c *compiler) list(backends []netip.AddrPort) span {
	c.key = c.key[:0]
	for _, b := range backends {
		a := b.Addr().As16()
		c.key = append(c.key, a[:]...)
		c.key = binary.BigEndian.AppendUint16(c.key, b.Port())
		c.key = append(c.key, b.Addr().Zone()...)
		c.key = append(c.key, byte(b.Addr().BitLen())) //nolint:gosec // 32 or 128; keeps lists apart, whatever a zone is
	}
	at, ok := c.lists[string(c.key)]
	if !ok {
		at = span{uint32(len(c.backends)), uint32(len(backends))} //nolint:gosec // a few per host
		c.backends = append(c.backends, backends...)
		c.lists[string(c.key)] = at
	}
	return at
}

func (c *compiler) addGrant(id string, r postern.EndpointGrant) {
	g := grant{id: c.write(id), organization: c.once(r.Organization), region: c.once(r.Region)}
	first := len(c.granted)
	for _, name := range r.Hosts {
		// A granted name that is no host is refused as unknown, whoever asks.
		if n := c.byName.find(name, func(i int) bool { return string(c.text[c.hosts[i].name.at:][:c.hosts[i].name.n]) == name }); n >= 0 {
			c.granted = append(c.granted, uint32(n)) //nolint:gosec // numbers of hosts are small
		}
	}
	slices.Sort(c.granted[first:])
	g.hosts = span{uint32(first), uint32(len(c.granted) - first)} //nolint:gosec // of all grants together
	c.byID.add(id, len(c.endpoints))
	c.endpoints = append(c.endpoints, g)
}

// sound tells quickly whether there is nothing to complain about. What the
// table before has in the same words needs no look.
func sound(r postern.Routes, before *table) bool {
	for name, h := range r.Hosts {
		if was := knownHost(before, name); was == nil || before.string(was.organization) != h.Organization || before.string(was.tenant) != h.Tenant {
			if checkHost(name, h).Err() != nil {
				return false
			}
		} else if slices.ContainsFunc(h.Backends, unusable) {
			return false
		}
	}
	for id, e := range r.Endpoints {
		if was := knownGrant(before, id); was == nil || before.string(was.organization) != e.Organization || before.string(was.region) != e.Region {
			if checkGrant(id, e).Err() != nil {
				return false
			}
		}
	}
	return true
}

func knownHost(t *table, name string) *host {
	if t == nil {
		return nil
	}
	h, _ := t.host(name)
	return h
}

func knownGrant(t *table, id string) *grant {
	if t == nil {
		return nil
	}
	return t.grant(id)
}

// check tells everything that is wrong with the routes.
func check(r postern.Routes) error {
	var es postern.Errors
	for _, name := range slices.Sorted(maps.Keys(r.Hosts)) {
		es = append(es, checkHost(name, r.Hosts[name])...)
	}
	for _, id := range slices.Sorted(maps.Keys(r.Endpoints)) {
		es = append(es, checkGrant(id, r.Endpoints[id])...)
	}
	return es.Err()
}

func checkHost(name string, h postern.Host) (es postern.Errors) {
	at := fmt.Sprintf("hosts[%q]", name)
	es.Add(postern.CheckHostname(at, name))
	if h.Organization != "" || h.Tenant != "" {
		es.Add(postern.CheckLabel(at+".organization", h.Organization))
	}
	for i, b := range h.Backends {
		if unusable(b) {
			es.Add(postern.Invalid(fmt.Sprintf("%s.backends[%d]", at, i), b.String(), "not an address with a port", "give a backend as 10.0.1.5:443"))
		}
	}
	return es
}

func unusable(b netip.AddrPort) bool { return !b.IsValid() || b.Port() == 0 }

func checkGrant(id string, e postern.EndpointGrant) (es postern.Errors) {
	at := fmt.Sprintf("endpoints[%q]", id)
	es.Add(postern.CheckVPCEndpointID(at, id))
	es.Add(postern.CheckLabel(at+".organization", e.Organization))
	es.Add(postern.CheckRegionName(at+".region", e.Region))
	return es
}
