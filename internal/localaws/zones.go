package localaws

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/postern-net/postern/internal/localaws/hostedzone"
)

// hostedZone is a hosted zone of Route 53, public or private. What the API
// tells is Now; what resolvers answer is Served, which follows when a change
// becomes INSYNC.
type hostedZone struct {
	ID              string     `json:"id"`
	Account         string     `json:"account"`
	CallerReference string     `json:"caller_reference"`
	Comment         string     `json:"comment,omitempty"`
	Private         bool       `json:"private"`
	NameServers     []string   `json:"name_servers"` // without trailing dots
	Now             zoneState  `json:"now"`
	Served          *zoneState `json:"served,omitempty"` // nil: not yet
	// Authorized are VPCs of other accounts that their owners may associate.
	Authorized []zoneVPC `json:"authorized_vpcs,omitempty"`
	// Deleted: the API does not know the zone any more, resolvers still do.
	Deleted bool              `json:"deleted,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Created time.Time         `json:"created"`
}

// zoneState is a zone's content at some moment. Its slices are replaced,
// never modified.
type zoneState struct {
	Zone hostedzone.Zone `json:"zone"`
	VPCs []zoneVPC       `json:"vpcs,omitempty"` // of a private zone
}

type zoneVPC struct {
	Region string `json:"region"`
	ID     string `json:"id"`
}

// zoneChange is a change as GetChange tells it.
type zoneChange struct {
	ID        string     `json:"id"`
	Sequence  int        `json:"sequence"` // changes take effect in the order of their submission
	Account   string     `json:"account"`
	Zone      string     `json:"zone"`
	Comment   string     `json:"comment,omitempty"`
	Submitted time.Time  `json:"submitted"`
	Due       time.Time  `json:"due,omitzero"`      // when it becomes INSYNC; zero: it is
	To        *zoneState `json:"to,omitempty"`      // what is served from then on
	Removes   bool       `json:"removes,omitempty"` // or the zone is gone
}

// status is the change's as GetChange tells it.
func (c *zoneChange) status() string {
	if c.Due.IsZero() {
		return "INSYNC"
	}
	return "PENDING"
}

// keptChanges is how many changes GetChange remembers at least.
const keptChanges = 200

// zone finds a zone that the API knows, whoever owns it.
func (st *state) zone(id string) (*hostedZone, bool) {
	z := st.Zones[id]
	if z == nil || z.Deleted {
		return nil, false
	}
	return z, true
}

// ownZone finds a zone of the caller's. Somebody else's does not exist.
func (st *state) ownZone(c *call) (*hostedZone, error) {
	id := c.path["Id"]
	z, ok := st.zone(id)
	if !ok || z.Account != c.caller.account {
		return nil, noZone(id)
	}
	return z, nil
}

// zonesOf are the zones of an account, by ID.
func (st *state) zonesOf(account string) []*hostedZone {
	var out []*hostedZone
	for _, z := range st.Zones {
		if z.Account == account && !z.Deleted {
			out = append(out, z)
		}
	}
	slices.SortFunc(out, func(a, b *hostedZone) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// submit records a change of a zone, made by the caller, which takes effect
// later. It returns the change as it is told now, that is PENDING.
func (st *state) submit(c *call, z *hostedZone, comment string, delay time.Duration) zoneChange {
	last := 0
	for _, ch := range st.Changes {
		last = max(last, ch.Sequence)
	}
	now := z.Now
	ch := zoneChange{
		ID: newZoneID("C"), Sequence: last + 1, Account: c.caller.account, Zone: z.ID, Comment: comment,
		Submitted: c.at, Due: c.at.Add(delay), To: &now, Removes: z.Deleted,
	}
	kept := ch
	st.Changes[ch.ID] = &kept
	st.forgetChanges()
	st.publish(c.at)
	return ch
}

// publish lets the changes that are due take effect.
func (st *state) publish(now time.Time) {
	var due []*zoneChange
	for _, ch := range st.Changes {
		if !ch.Due.IsZero() && !ch.Due.After(now) {
			due = append(due, ch)
		}
	}
	slices.SortFunc(due, func(a, b *zoneChange) int { return cmp.Compare(a.Sequence, b.Sequence) })
	for _, ch := range due {
		switch z := st.Zones[ch.Zone]; {
		case z == nil:
		case ch.Removes:
			delete(st.Zones, ch.Zone)
		default:
			z.Served = ch.To
		}
		ch.Due, ch.To = time.Time{}, nil
	}
}

// forgetChanges drops the oldest changes that are over, once there are many.
func (st *state) forgetChanges() {
	if len(st.Changes) < 2*keptChanges {
		return
	}
	var over []*zoneChange
	for _, ch := range st.Changes {
		if ch.Due.IsZero() {
			over = append(over, ch)
		}
	}
	slices.SortFunc(over, func(a, b *zoneChange) int { return cmp.Compare(a.Sequence, b.Sequence) })
	for _, ch := range over[:max(0, len(over)-keptChanges)] {
		delete(st.Changes, ch.ID)
	}
}

// newZoneID makes an identifier as Route 53 does: a letter and 20 capital
// letters and digits.
func newZoneID(prefix string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	b := make([]byte, 20)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	for i := range b {
		b[i] = digits[int(b[i])%len(digits)]
	}
	return prefix + string(b)
}

// newNameServers draws the four name servers of a public zone. Two zones
// hardly ever have one in common. Private zones all have the same, which
// nobody reaches.
func newNameServers(private bool) []string {
	var n, group [4]int
	if !private {
		b := make([]byte, 12)
		_, _ = rand.Read(b) // never fails (crypto/rand)
		for i := range 4 {
			n[i] = (int(b[3*i])<<8 | int(b[3*i+1])) % 512
			group[i] = int(b[3*i+2]) % 64
		}
	}
	var out []string
	for i, domain := range []string{"com", "net", "org", "co.uk"} {
		out = append(out, fmt.Sprintf("ns-%d.awsdns-%02d.%s", 512*i+n[i], group[i], domain))
	}
	return out
}

// busyZones are the zones of which a request is being processed. Another one
// meanwhile is refused: PriorRequestNotComplete.
type busyZones struct {
	mu    sync.Mutex
	zones map[string]bool
}

// enter tells whether the zone was free, and takes it.
func (b *busyZones) enter(zone string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.zones[zone] {
		return false
	}
	if b.zones == nil {
		b.zones = map[string]bool{}
	}
	b.zones[zone] = true
	return true
}

func (b *busyZones) leave(zone string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.zones, zone)
}
