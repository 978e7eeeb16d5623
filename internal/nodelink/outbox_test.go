package nodelink_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-net/postern"
)

// see lets a connection arrive that a test describes.
func (d *doors) see(a postern.ArrivalCount) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a.Region, a.Count, a.FirstSeen, a.LastSeen = "us-east-1", 1, time.Now(), time.Now()
	d.arrivals = append(d.arrivals, a)
}

// Strangers, however many names they ask for, take one report's place and come
// last; all of them are counted.
func TestStrangersAreReportedLast(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		c.down = true
		n := start(t, c, dir)
		const strangers, theirs = 45_000, 1500
		for i := range strangers {
			n.doors.see(postern.ArrivalCount{Listener: postern.ListenerPublic, ServerName: fmt.Sprintf("s%d.example", i), Denial: postern.DenyUnknownHost})
		}
		for i := range theirs {
			n.doors.see(postern.ArrivalCount{Listener: postern.ListenerPrivate, ServerName: fmt.Sprintf("h%d.example", i), Denial: postern.DenyUnknownHost, Organization: "globex"})
		}
		n.doors.see(postern.ArrivalCount{Listener: postern.ListenerPrivate, ServerName: "admitted.example", Organization: "globex"})
		pass(2 * time.Second)
		c.cutOff(false)
		pass(time.Minute)
		n.stop()

		reports, _ := c.reported()
		var seen []postern.ArrivalCount
		counted := map[int64]bool{}
		for _, r := range reports {
			if counted[r.Seq] {
				continue // it was sent again
			}
			counted[r.Seq] = true
			for _, a := range r.Arrivals {
				seen = append(seen, postern.ArrivalCount{ServerName: a.ServerName, Organization: a.Organization, Count: a.Count})
			}
		}
		if len(seen) == 0 || seen[0].ServerName != "admitted.example" {
			t.Fatalf("of %d arrivals the admitted one is not first", len(seen))
		}
		var total int64
		named := 0
		for i, a := range seen {
			if wantTheirs := i <= theirs; (a.Organization == "globex") != wantTheirs {
				t.Fatalf("arrival %d is %+v", i, a)
			}
			if a.Organization == "" {
				total += a.Count
				if a.ServerName != "" {
					named++
				}
			}
		}
		if total != strangers || named != postern.MaxReportArrivals {
			t.Errorf("%d of %d strangers counted, %d with a name", total, strangers, named)
		}
	})
}
