package localaws

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// stateVersion is written into the state file; another one is refused.
const stateVersion = 1

// state is everything that calls change. A value is never modified once it is
// the server's current one: a change clones it, so readers need no lock.
type state struct {
	Version int `json:"version"`
	// Seeded are the IDs of the world's things that were put into the state
	// once. Those that a call deleted do not come back with a restart.
	Seeded    map[string]bool           `json:"seeded"`
	Services  map[string]*service       `json:"endpoint_services"`
	Endpoints map[string]*endpoint      `json:"endpoints"`
	Groups    map[string]*securityGroup `json:"security_groups"`
	Tokens    map[string]clientToken    `json:"client_tokens"`
	Zones     map[string]*hostedZone    `json:"hosted_zones"`
	Changes   map[string]*zoneChange    `json:"zone_changes"`
}

// service is an endpoint service.
type service struct {
	ID                 string            `json:"id"`
	Account            string            `json:"account"`
	Region             string            `json:"region"`
	LoadBalancers      []string          `json:"load_balancer_arns"`
	ZoneIDs            []string          `json:"availability_zone_ids"` // as of creation or the last modification
	AcceptanceRequired bool              `json:"acceptance_required"`
	Regions            []serviceRegion   `json:"regions"` // the home region first
	Permissions        []permission      `json:"permissions"`
	Tags               map[string]string `json:"tags,omitempty"`
	Created            time.Time         `json:"created"`
}

type serviceRegion struct {
	Name  string `json:"name"`
	State string `json:"state"` // Available, or Closed: removed, and still listed
}

type permission struct {
	ID        string `json:"id"`
	Principal string `json:"principal"`
}

// The states of an endpoint as the wire spells them.
const (
	statePendingAcceptance = "pendingAcceptance"
	statePending           = "pending"
	stateAvailable         = "available"
	stateDeleting          = "deleting"
	stateDeleted           = "deleted"
	stateRejected          = "rejected"
	stateFailed            = "failed"
)

// endpoint is an interface endpoint, which is also the connection that its
// service's owner sees.
type endpoint struct {
	ID           string `json:"id"`
	ConnectionID string `json:"connection_id"`
	Account      string `json:"account"`
	Region       string `json:"region"`
	VPC          string `json:"vpc"`

	ServiceID      string `json:"service_id"`
	ServiceAccount string `json:"service_account"` // kept, for the service may go first
	ServiceRegion  string `json:"service_region"`

	State string    `json:"state"`
	Due   time.Time `json:"due,omitzero"` // when the state changes by itself, or the row vanishes
	// ConnectionGone: the provider's list has forgotten a rejected endpoint,
	// its owner's has not.
	ConnectionGone bool              `json:"connection_gone,omitempty"`
	Failure        string            `json:"failure,omitempty"`
	Interfaces     []netInterface    `json:"network_interfaces"`
	Groups         []string          `json:"security_groups"`
	DNSToken       string            `json:"dns_token"`
	DNSFrom        time.Time         `json:"dns_from"` // when DnsEntries are told
	Policy         string            `json:"policy,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`
	Created        time.Time         `json:"created"`
}

// netInterface is the endpoint's presence in one subnet.
type netInterface struct {
	ID      string     `json:"id"`
	Subnet  string     `json:"subnet"`
	ZoneID  string     `json:"availability_zone_id"`
	Address netip.Addr `json:"address"`
}

type securityGroup struct {
	ID          string            `json:"id"`
	Account     string            `json:"account"`
	Region      string            `json:"region"`
	VPC         string            `json:"vpc"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Rules       []ingressRule     `json:"ingress"`
	Tags        map[string]string `json:"tags,omitempty"`
}

// ingressRule admits one network or one group.
type ingressRule struct {
	ID          string       `json:"id"`
	Protocol    string       `json:"protocol"` // "tcp", "udp", "icmp" or "-1": all
	From        int          `json:"from"`     // ports, both inclusive; -1 for all
	To          int          `json:"to"`
	CIDR        netip.Prefix `json:"cidr,omitzero"`
	Group       string       `json:"group,omitempty"`
	Description string       `json:"description,omitempty"`
}

// same tells whether two rules admit the same; AWS refuses the second one.
func (r ingressRule) same(o ingressRule) bool {
	return r.Protocol == o.Protocol && r.From == o.From && r.To == o.To && r.CIDR == o.CIDR && r.Group == o.Group
}

// clientToken remembers what a token made.
type clientToken struct {
	Digest   string `json:"digest"` // of the request's parameters
	Resource string `json:"resource"`
}

func newState() *state {
	return &state{
		Version: stateVersion, Seeded: map[string]bool{}, Services: map[string]*service{},
		Endpoints: map[string]*endpoint{}, Groups: map[string]*securityGroup{}, Tokens: map[string]clientToken{},
		Zones: map[string]*hostedZone{}, Changes: map[string]*zoneChange{},
	}
}

func (st *state) clone() *state {
	c := &state{
		Version: st.Version, Seeded: maps.Clone(st.Seeded), Tokens: maps.Clone(st.Tokens),
		Services:  make(map[string]*service, len(st.Services)),
		Endpoints: make(map[string]*endpoint, len(st.Endpoints)),
		Groups:    make(map[string]*securityGroup, len(st.Groups)),
		Zones:     make(map[string]*hostedZone, len(st.Zones)),
		Changes:   make(map[string]*zoneChange, len(st.Changes)),
	}
	for id, s := range st.Services {
		n := *s
		n.LoadBalancers, n.ZoneIDs = slices.Clone(s.LoadBalancers), slices.Clone(s.ZoneIDs)
		n.Regions, n.Permissions, n.Tags = slices.Clone(s.Regions), slices.Clone(s.Permissions), maps.Clone(s.Tags)
		c.Services[id] = &n
	}
	for id, e := range st.Endpoints {
		n := *e
		n.Interfaces, n.Groups, n.Tags = slices.Clone(e.Interfaces), slices.Clone(e.Groups), maps.Clone(e.Tags)
		c.Endpoints[id] = &n
	}
	for id, g := range st.Groups {
		n := *g
		n.Rules, n.Tags = slices.Clone(g.Rules), maps.Clone(g.Tags)
		c.Groups[id] = &n
	}
	for id, z := range st.Zones {
		n := *z
		n.Authorized, n.Tags = slices.Clone(z.Authorized), maps.Clone(z.Tags)
		c.Zones[id] = &n
	}
	for id, ch := range st.Changes {
		n := *ch
		c.Changes[id] = &n
	}
	return c
}

// seed adds what the world has and the state has never had.
func (st *state) seed(w *World, now time.Time) {
	once := func(id string) bool {
		if st.Seeded[id] {
			return false
		}
		st.Seeded[id] = true
		return true
	}
	for _, v := range w.VPCs {
		if once(v.DefaultSecurityGroup) {
			// Hosts of a VPC mostly belong to its default group, which admits itself.
			st.Groups[v.DefaultSecurityGroup] = &securityGroup{
				ID: v.DefaultSecurityGroup, Account: v.Account, Region: v.Region, VPC: v.ID,
				Name: "default", Description: "default VPC security group",
				Rules: []ingressRule{{ID: stableID("sgr-", v.DefaultSecurityGroup), Protocol: "-1", From: -1, To: -1, Group: v.DefaultSecurityGroup}},
			}
		}
		for _, g := range v.Groups {
			if once(g.ID) {
				st.Groups[g.ID] = &securityGroup{ID: g.ID, Account: v.Account, Region: v.Region, VPC: v.ID, Name: g.Name, Description: g.Name}
			}
		}
	}
	for _, s := range w.EndpointServices {
		if !once(s.ID) {
			continue
		}
		n := &service{
			ID: s.ID, Account: s.Account, Region: s.Region, LoadBalancers: slices.Clone(s.LoadBalancers),
			ZoneIDs: w.zonesOf(s.LoadBalancers), AcceptanceRequired: s.AcceptanceRequired, Created: now,
			Regions: []serviceRegion{{Name: s.Region, State: "Available"}},
		}
		for _, r := range s.SupportedRegions {
			if r != s.Region {
				n.Regions = append(n.Regions, serviceRegion{Name: r, State: "Available"})
			}
		}
		for _, p := range s.AllowedPrincipals {
			n.Permissions = append(n.Permissions, permission{ID: stableID("vpce-svc-perm-", s.ID, p), Principal: p})
		}
		st.Services[s.ID] = n
	}
}

// zonesOf is the union of the zones of load balancers, sorted.
func (w *World) zonesOf(arns []string) []string {
	var ids []string
	for _, arn := range arns {
		l, _ := w.loadBalancer(arn)
		ids = append(ids, l.zoneIDs()...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// fits reports whether everything that the state refers to is in the world.
func (st *state) fits(w *World) error {
	for _, e := range st.Endpoints {
		v, ok := w.vpc(e.VPC)
		if !ok {
			return fmt.Errorf("endpoint %s is in %s, which the world lacks", e.ID, e.VPC)
		}
		for _, n := range e.Interfaces {
			if !v.CIDR.Contains(n.Address) {
				return fmt.Errorf("endpoint %s has address %s outside of %s (%s)", e.ID, n.Address, e.VPC, v.CIDR)
			}
		}
	}
	for _, s := range st.Services {
		for _, arn := range s.LoadBalancers {
			if _, ok := w.loadBalancer(arn); !ok {
				return fmt.Errorf("endpoint service %s uses %s, which the world lacks", s.ID, arn)
			}
		}
	}
	for _, g := range st.Groups {
		if _, ok := w.vpc(g.VPC); !ok {
			return fmt.Errorf("security group %s is in %s, which the world lacks", g.ID, g.VPC)
		}
	}
	for _, z := range st.Zones {
		for _, v := range z.Now.VPCs {
			if _, ok := w.vpc(v.ID); !ok {
				return fmt.Errorf("hosted zone %s is associated with %s, which the world lacks", z.ID, v.ID)
			}
		}
	}
	return nil
}

// loadState reads the state file; without one the state is empty.
func loadState(path string) (*state, error) {
	if path == "" {
		return newState(), nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newState(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("state file: %w", err)
	}
	st := newState()
	if err := json.Unmarshal(data, st); err != nil {
		return nil, fmt.Errorf("state file %s: %w", path, err)
	}
	if st.Version != stateVersion {
		return nil, fmt.Errorf("state file %s: version %d, not %d; start with another file", path, st.Version, stateVersion)
	}
	return st, nil
}

// save writes the state so that a crash at any moment leaves the old file or
// the new one.
func (st *state) save(path string) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(st, "", " ")
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	return writeFile(path, append(data, '\n'))
}

// writeFile replaces a file atomically and durably.
func writeFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// newID makes an identifier as AWS does: a prefix and 17 hexadecimal digits of
// which the first is 0.
func newID(prefix string) string { return prefix + "0" + randomHex(8) }

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// newDNSToken is the eight characters that AWS adds to an endpoint's names.
func newDNSToken() string {
	const digits = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, 8)
	_, _ = rand.Read(b)
	for i := range b {
		b[i] = digits[int(b[i])%len(digits)]
	}
	return string(b)
}
