package nodelink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/nodelink"
)

func TestNodeFollows(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		n := start(t, c, dir)
		pass(time.Millisecond)
		if s := n.Status(); n.doors.revision() != -1 || s.InForce || !s.Connected || s.Fenced {
			t.Errorf("before there is a table: %+v, revision %d", s, n.doors.revision())
		}
		for r := range int64(3) {
			c.hub.Publish(table(r+1, "a", fmt.Sprint("t", r)))
			pass(time.Millisecond) // an acknowledgement does not wait for the next second
			if n.doors.revision() != r+1 || c.acknowledged() != r+1 {
				t.Errorf("revision %d is in force and %d acknowledged, want %d", n.doors.revision(), c.acknowledged(), r+1)
			}
		}
		if diff := cmp.Diff(table(3, "a", "t2"), n.doors.held(), sameRoutes); diff != "" {
			t.Error(diff)
		}
		if s := n.Status(); s != (nodelink.Status{Revision: 3, InForce: true, Connected: true}) {
			t.Errorf("%+v", s)
		}
	})
}

// With the control plane gone, a node starts and serves what it last knew, and
// catches up when it is back.
func TestNodeIsStaticallyStable(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		c.hub.Publish(table(7, "a"))
		first := start(t, c, dir)
		pass(time.Second)
		first.stop()
		c.cutOff(true)
		c.hub.Publish(table(8, "a", "b"))

		n := newNode(t, c, dir)
		n.Restore()
		if n.doors.revision() != 7 {
			t.Fatalf("before it runs, revision %d is in force", n.doors.revision())
		}
		n = start(t, c, dir)
		pass(time.Hour)
		if n.doors.revision() != 7 || n.Status().Connected {
			t.Errorf("without a control plane: %+v", n.Status())
		}
		if got := n.log.count("level=WARN"); got != 1 {
			t.Errorf("an outage is told %d times", got)
		}
		c.cutOff(false)
		pass(6 * time.Second)
		if n.doors.revision() != 8 || c.acknowledged() != 8 {
			t.Errorf("healed: revision %d is in force, %d acknowledged", n.doors.revision(), c.acknowledged())
		}
	})
}

// Connections to a control plane that is gone get rarer, up to one in five
// seconds, and not in step.
func TestNodeBacksOff(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		c.down = true
		start(t, c, dir)
		pass(time.Minute)
		tries := c.registered()
		limit := 100 * time.Millisecond
		for i := 1; i < len(tries); i++ {
			gap := tries[i].Sub(tries[i-1])
			if gap < limit/2 || gap > limit {
				t.Errorf("attempt %d came %s after the one before, want between %s and %s", i, gap, limit/2, limit)
			}
			limit = min(2*limit, 5*time.Second)
		}
		if n := len(tries); n < 16 || n > 30 {
			t.Errorf("%d attempts in a minute", n)
		}
	})
}

// A stream on which nothing is heard is dead, and so is a server that takes a
// connection and does not answer.
func TestNodeNoticesSilence(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		c.hub.Publish(table(1, "a"))
		c.streams = append(c.streams, func(ctx context.Context, _ int64, each func([]byte) error) error {
			if err := each([]byte(`{"ping":{"revision":1}}`)); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		})
		c.hang = true
		n := start(t, c, dir)
		pass(nodelink.Quiet - time.Millisecond)
		if len(c.registered()) != 1 {
			t.Fatalf("%d registrations while the first hangs", len(c.registered()))
		}
		c.set(func() { c.hang = false })
		pass(200 * time.Millisecond) // it gave up on the first, and the second is open
		if len(c.registered()) != 2 || !n.Status().Connected {
			t.Fatalf("%d registrations; %+v", len(c.registered()), n.Status())
		}
		pass(nodelink.Quiet - time.Second)
		if len(c.registered()) != 2 {
			t.Error("the silent stream was given up too early")
		}
		pass(2 * time.Second)
		if len(c.registered()) != 3 || n.doors.revision() != 1 {
			t.Errorf("after the silent stream: %d registrations, revision %d", len(c.registered()), n.doors.revision())
		}
		pass(10 * nodelink.Quiet)
		if len(c.registered()) != 3 {
			t.Error("a stream with pings was given up")
		}
	})
}

// say makes a stream that says some lines and ends.
func say(end error, ls ...string) func(context.Context, int64, func([]byte) error) error {
	return func(_ context.Context, _ int64, each func([]byte) error) error {
		for _, l := range ls {
			if err := each([]byte(l)); err != nil {
				return err
			}
		}
		return end
	}
}

// Whatever the stream says, the table in force is the last good one, and the
// next stream mends it.
func TestNodeSurvivesGarbage(t *testing.T) {
	to := func(r postern.Routes) string { return string(marshal(t, nodelink.Message{Snapshot: &r})) }
	delta := func(from, to postern.Routes, change func(*nodelink.Delta)) string {
		d := nodelink.Diff(from, to)
		change(&d)
		return string(marshal(t, nodelink.Message{Delta: &d}))
	}
	good := table(5, "a", "b")
	for name, c := range map[string]struct {
		line   string
		refuse error
	}{
		"no JSON":                       {line: "<html>"},
		"half a message":                {line: to(table(6, "z"))[:40]},
		"nothing":                       {line: ""},
		"an unknown thing":              {line: `{"command":"open everything"}`},
		"an unknown field of a host":    {line: strings.Replace(to(table(6, "z")), `"public"`, `"publik"`, 1)},
		"an earlier snapshot":           {line: to(table(4, "z"))},
		"a delta of another revision":   {line: delta(table(4, "z"), table(6, "z"), func(*nodelink.Delta) {})},
		"a delta that goes back":        {line: delta(good, table(4, "z"), func(*nodelink.Delta) {})},
		"a delta with a wrong sum":      {line: delta(good, table(6, "z"), func(d *nodelink.Delta) { d.Sum = "00" })},
		"too much":                      {line: `{"fenced":{"reason":"` + strings.Repeat("x", nodelink.MaxMessage) + `"}}`},
		"a table that the doors refuse": {line: to(table(6, "z")), refuse: errors.New("no such region")},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				link := newControl()
				link.hub.Publish(good)
				n := start(t, link, dir)
				pass(20 * time.Second)
				kept := readFile(t, n.file)
				n.doors.refuseWith(c.refuse)
				link.set(func() { link.streams = append(link.streams, say(io.EOF, c.line)) })
				link.set(link.cut)
				// Before the pause is over, what the stream said has come to nothing.
				for n.log.count("level=ERROR") == 0 {
					pass(time.Millisecond)
					if link.registered()[0].Before(time.Now().Add(-time.Minute)) {
						t.Fatal("no error was logged")
					}
				}
				if diff := cmp.Diff(good, n.doors.held(), sameRoutes); diff != "" {
					t.Errorf("the table in force:\n%s", diff)
				}
				if got := readFile(t, n.file); got != kept {
					t.Errorf("the kept table is now %s", got)
				}
				n.doors.refuseWith(nil)
				link.hub.Publish(table(6, "a", "b", "c"))
				pass(10 * time.Second)
				if n.doors.revision() != 6 || link.acknowledged() != 6 || n.Status().Fenced {
					t.Errorf("afterwards: %+v, %d acknowledged", n.Status(), link.acknowledged())
				}
			})
		})
	}
}

// A control plane whose database was restored has another history: deltas that
// do not fit are no dead end.
func TestNodeFollowsAnotherHistory(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		link := newControl()
		link.hub.Publish(table(4, "a"))
		link.hub.Publish(table(5, "a", "revoked"))
		n := start(t, link, dir)
		pass(time.Second)
		link.cutOff(true)
		restored := nodelink.NewHub()
		for r := int64(4); r < 9; r++ { // its own revisions 5 and 6
			restored.Publish(table(r, "a", "b"))
		}
		link.set(func() { link.hub = restored })
		link.cutOff(false)
		pass(30 * time.Second)
		if diff := cmp.Diff(table(8, "a", "b"), n.doors.held(), sameRoutes); diff != "" || link.acknowledged() != 8 {
			t.Errorf("%d acknowledged:\n%s", link.acknowledged(), diff)
		}
	})
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A kept table that was damaged in any way is none.
func TestRestoreRefusesDamage(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		c.hub.Publish(table(3, "a", "b"))
		n := start(t, c, dir)
		pass(time.Second)
		n.stop()
	})
	file := filepath.Join(dir, "routes.json")
	whole := readFile(t, file)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	var damaged []string
	for i := range len(whole) {
		damaged = append(damaged, whole[:i])
	}
	for _, r := range [][2]string{
		{`"format":1`, `"format":2`},
		{`"revision":3`, `"revision":4`},
		{`"public":true`, `"public":false`},
		{`a.example.com`, `c.example.com`},
		{`"format":1`, `"format":1,"more":1`},
		{`}`, `}}`},
	} {
		if !strings.Contains(whole, r[0]) {
			t.Fatalf("nothing to damage: no %s in %s", r[0], whole)
		}
		damaged = append(damaged, strings.Replace(whole, r[0], r[1], 1))
	}
	damaged = append(damaged, whole+"x", `{"format":1,"sum":"`+nodelink.Sum(postern.Routes{})+`","routes":{"revision":0,"hosts":{},"endpoints":{}}}`)
	for _, text := range damaged {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n := newNode(t, newControl(), dir)
		n.Restore()
		if n.doors.revision() != -1 || n.log.count("level=ERROR") != 1 {
			t.Fatalf("revision %d is in force, %d errors logged, for %q", n.doors.revision(), n.log.count("level=ERROR"), text)
		}
	}
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, newControl(), dir)
	n.doors.refuseWith(errors.New("no such region"))
	n.Restore()
	if n.Status().InForce || n.log.count("no such region") != 1 {
		t.Errorf("a table that the doors refuse: %+v", n.Status())
	}
	n.doors.refuseWith(nil)
	n.Restore()
	if n.doors.revision() != 3 {
		t.Error("the whole file is refused too: the test proves nothing")
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{"format":1,"sum":"x","routes":{"revision":1,"hosts":{},"endpoints":{}}}`))
	f.Add([]byte(`{"format":1,"sum":"` + nodelink.Sum(table(1, "a")) + `","routes":` + mustJSON(f, table(1, "a")) + `}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		n := newNode(t, newControl(), dir)
		if err := os.WriteFile(n.file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		n.Restore()
		if n.doors.revision() == -1 {
			return
		}
		var c struct{ Sum string }
		if err := json.Unmarshal(b, &c); err != nil || c.Sum != nodelink.Sum(n.doors.held()) {
			t.Errorf("%s is taken, with sum %s", b, nodelink.Sum(n.doors.held()))
		}
	})
}

func mustJSON(f *testing.F, v any) string {
	f.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		f.Fatal(err)
	}
	return string(b)
}

// What cannot be kept is in force and is not acknowledged: a restart would
// bring the earlier table back.
func TestUnkeptIsNotAcknowledged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there")
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		c.hub.Publish(table(2, "a"))
		n := start(t, c, dir)
		pass(5 * time.Second)
		if n.doors.revision() != 2 || c.acknowledged() != 0 {
			t.Errorf("revision %d is in force, %d acknowledged", n.doors.revision(), c.acknowledged())
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Second)
		if c.acknowledged() != 2 {
			t.Errorf("once it is kept, %d is acknowledged", c.acknowledged())
		}
		again := newNode(t, c, dir)
		again.Restore()
		if again.doors.revision() != 2 {
			t.Error("it is not on disk")
		}
	})
}

// A fenced node refuses everything as soon as it hears of it, by whichever
// way, and forgets what it kept.
func TestFenced(t *testing.T) {
	// atLast makes the next stream the way by which the node hears of it.
	atLast := func(c *control, stream func(context.Context, int64, func([]byte) error) error) {
		c.streams = append(c.streams, func(ctx context.Context, have int64, each func([]byte) error) error {
			c.set(func() { c.fenced = true })
			return stream(ctx, have, each)
		})
		c.cut()
	}
	for name, tell := range map[string]func(c *control){
		"by the stream":               func(c *control) { atLast(c, say(io.EOF, `{"fenced":{"reason":"by an operator"}}`)) },
		"by a stream that is refused": func(c *control) { atLast(c, say(conflict(postern.FieldFenced))) },
		"by a report":                 func(c *control) { c.fenced = true },
		"by a registration": func(c *control) {
			c.fenced = true
			c.cut()
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				c := newControl()
				c.hub.Publish(table(4, "a"))
				n := start(t, c, dir)
				pass(20 * time.Second)
				c.set(func() { tell(c) })
				pass(6 * time.Second) // the next heartbeat
				if s := n.Status(); n.doors.revision() != -1 || s.InForce || !s.Fenced {
					t.Fatalf("it serves on: %+v", s)
				}
				if _, err := os.Stat(n.file); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the table is still kept: %v", err)
				}
				c.hub.Publish(table(5, "a"))
				n.doors.arrive("meanwhile.example", 3)
				pass(time.Minute)
				if n.doors.revision() != -1 {
					t.Error("it took a table while it was fenced")
				}
				if got := n.log.count("this node is fenced"); got != 1 {
					t.Errorf("told %d times", got)
				}
				n.stop()
				again := start(t, c, dir)
				pass(time.Minute)
				if again.doors.revision() != -1 {
					t.Error("a restart serves again")
				}
				c.set(func() { c.fenced = false })
				pass(6 * time.Second)
				if s := again.Status(); again.doors.revision() != 5 || s.Fenced || c.acknowledged() != 5 {
					t.Errorf("no longer fenced: %+v, %d acknowledged", s, c.acknowledged())
				}
			})
		})
	}
}

// A node that was parted when it was fenced cannot know: it serves what it
// knew. It closes its doors at the first word.
func TestFencedWhileParted(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		c.hub.Publish(table(4, "a"))
		n := start(t, c, dir)
		pass(time.Second)
		c.cutOff(true)
		c.set(func() { c.fenced = true })
		pass(time.Minute)
		if n.doors.revision() != 4 {
			t.Errorf("parted: revision %d", n.doors.revision())
		}
		c.cutOff(false)
		pass(6 * time.Second)
		if n.doors.revision() != -1 {
			t.Errorf("told: revision %d", n.doors.revision())
		}
	})
}

// Whatever becomes of answers, each arrival counts once.
func TestReportsCountOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		c.hub.Publish(table(1, "a"))
		n := start(t, c, dir)
		pass(2 * time.Second)
		want := int64(0)
		for i, change := range []func(){
			func() { c.loseAnswers = true },
			func() { c.loseAnswers = false },
			func() { c.down = true },
			func() { c.down, c.loseAnswers = false, true },
			func() { c.cut() },
			func() { c.loseAnswers = false },
		} {
			c.set(change)
			for range 4 {
				n.doors.arrive("a.example.com", int64(i+1))
				want += int64(i + 1)
				pass(700 * time.Millisecond)
			}
		}
		n.doors.arrive("a.example.com", 100) // just before the end
		want += 100
		n.stop()
		if got := c.count("a.example.com"); got != want {
			t.Errorf("%d arrivals were counted, want %d", got, want)
		}
		content := map[int64]client.NodeReport{}
		again := 0
		reports, _ := c.reported()
		for _, r := range reports {
			if r.SentAt.IsZero() {
				t.Errorf("report %d does not tell when it was sent", r.Seq)
			}
			r.SentAt = time.Time{} // it is of each attempt
			if before, ok := content[r.Seq]; ok {
				again++
				if diff := cmp.Diff(before, r); diff != "" {
					t.Errorf("report %d changed:\n%s", r.Seq, diff)
				}
			}
			content[r.Seq] = r
		}
		if again == 0 {
			t.Error("no report was sent again: the test proves nothing")
		}
	})
}

// A node with nothing to say says that it lives, and no more often than that.
func TestReportsAreRareWhenNothingHappens(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		c.hub.Publish(table(1, "a"))
		start(t, c, dir)
		pass(2 * time.Second)
		before, _ := c.reported()
		pass(time.Minute)
		after, times := c.reported()
		if got := len(after) - len(before); got < 11 || got > 13 {
			t.Errorf("%d reports in a quiet minute", got)
		}
		for i := range times[1:] {
			if gap := times[i+1].Sub(times[i]); gap > postern.NodeSilentAfter/2 {
				t.Errorf("silent for %s", gap)
			}
		}
	})
}

// Many kinds of arrivals go in several reports; too many lose their names and
// not their number.
func TestReportsAreBounded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		c.down = true
		n := start(t, c, dir)
		const kinds = 45_000
		for i := range kinds {
			n.doors.arrive(fmt.Sprintf("h%d.example", i), 2)
		}
		pass(2 * time.Second)
		c.cutOff(false)
		pass(2 * time.Minute)
		n.stop()
		sum, named := int64(0), 0
		for host, count := range c.counts {
			sum += count
			if host != "" {
				named++
			}
		}
		if sum != 2*kinds || named != 40_000 || c.count("") != 2*(kinds-40_000) {
			t.Errorf("%d counted, %d with a name, %d without", sum, named, c.count(""))
		}
		reports, _ := c.reported()
		for _, r := range reports {
			if len(r.Arrivals) > postern.MaxReportArrivals {
				t.Fatalf("a report of %d", len(r.Arrivals))
			}
		}
	})
}

// A report that is refused for what it says does not hold up the next ones.
func TestRefusedReportIsDropped(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		n := start(t, c, dir)
		pass(time.Second)
		c.set(func() {
			c.refuseReports = &client.Error{Problem: client.Problem{Type: "urn:postern:problem:invalid", Title: "x"}}
		})
		n.doors.arrive("bad.example", 1)
		pass(2 * time.Second)
		c.set(func() { c.refuseReports = nil })
		n.doors.arrive("good.example", 1)
		pass(2 * time.Second)
		if c.count("bad.example") != 0 || c.count("good.example") != 1 || n.log.count("refuses a report") != 1 {
			t.Errorf("counts %v, told %d times", c.counts, n.log.count("refuses a report"))
		}
	})
}

// A control plane that forgot the node, or knows another process of its name,
// is told again who it is.
func TestNodeRegistersAgain(t *testing.T) {
	for name, forget := range map[string]func(c *control){
		"another process": func(c *control) { c.boot = "somebody else" },
		"forgotten": func(c *control) {
			c.refuseReports = &client.Error{Problem: client.Problem{Type: "urn:postern:problem:not_found", Title: "x"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				c := newControl()
				c.hub.Publish(table(1, "a"))
				n := start(t, c, dir)
				pass(20 * time.Second)
				before := len(c.registered())
				n.doors.arrive("a.example.com", 1)
				c.set(func() { forget(c) })
				pass(1100 * time.Millisecond)
				c.set(func() { c.refuseReports = nil })
				pass(10 * time.Second)
				if len(c.registered()) == before || c.count("a.example.com") != 1 || n.doors.revision() != 1 || !n.Status().Connected {
					t.Errorf("%d registrations, %v, %+v", len(c.registered())-before, c.counts, n.Status())
				}
			})
		})
	}
}

// Stopping does not wait for a control plane that does not answer.
func TestStopIsQuick(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl()
		c.hub.Publish(table(1, "a"))
		n := start(t, c, dir)
		pass(2 * time.Second)
		c.cutOff(true)
		n.doors.arrive("lost.example", 1)
		begin := time.Now()
		n.stop()
		if took := time.Since(begin); took > 1100*time.Millisecond {
			t.Errorf("it took %s", took)
		}
		if n.log.count("could not be reported") != 1 {
			t.Error("the loss was not told")
		}
	})
}
