package localaws

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/postern-net/postern"
)

// FaultKind is what a [Fault] does to a call.
type FaultKind string

// The kinds of faults.
const (
	FaultError    FaultKind = "error"    // answers Code, Message and Status
	FaultThrottle FaultKind = "throttle" // answers as a full token bucket does
	FaultDelay    FaultKind = "delay"    // waits
	FaultDrop     FaultKind = "drop"     // resets the connection
	FaultGarbage  FaultKind = "garbage"  // answers 200 with what is no XML
	FaultPause    FaultKind = "pause"    // holds the call until it is released
)

// FaultWhen is when a fault strikes.
type FaultWhen string

// A fault strikes before the call does anything, or after its effect is
// durable and before it is answered.
const (
	BeforeCommit FaultWhen = "before"
	AfterCommit  FaultWhen = "after"
)

// Fault is a rule that breaks calls. Action, Account (ID or name) and Region
// select; an empty one selects everything.
type Fault struct {
	ID      string    `json:"id"` // given by Add
	Kind    FaultKind `json:"kind"`
	When    FaultWhen `json:"when,omitempty"` // default: after for drop and garbage, else before
	Action  string    `json:"action,omitempty"`
	Account string    `json:"account,omitempty"`
	Region  string    `json:"region,omitempty"`
	Times   int       `json:"times,omitempty"` // how many calls; 0: until removed
	// Code, Message and Status (default 500) of a FaultError. An
	// InvalidChangeBatch has the shape of AWS's reference, which clients must
	// understand besides the one that Route 53 sends.
	Code    string        `json:"code,omitempty"`
	Message string        `json:"message,omitempty"`
	Status  int           `json:"status,omitempty"`
	Delay   time.Duration `json:"delay_ns,omitempty"` // of FaultDelay
}

// Call is one call that was verified, in the order of arrival.
type Call struct {
	ID         string            `json:"id"` // request ID
	At         time.Time         `json:"at"`
	Service    string            `json:"service"`
	Action     string            `json:"action"`
	Account    string            `json:"account"` // ID
	Region     string            `json:"region"`
	Parameters map[string]string `json:"parameters"`
	State      string            `json:"state"`           // running, paused, done, or the kind of the fault that broke it
	Code       string            `json:"code,omitempty"`  // the error's, when it failed
	Fault      string            `json:"fault,omitempty"` // ID of the last fault that struck
}

// keptCalls is how many calls are remembered.
const keptCalls = 1000

// Faults is the switchboard of fault injection. It is safe for concurrent use.
type Faults struct {
	mu     sync.Mutex
	next   int
	rules  []*Fault
	calls  []*Call
	paused map[string]chan struct{} // by call ID; closed to release
	change chan struct{}            // closed and replaced at every change
}

func newFaults() *Faults {
	return &Faults{paused: map[string]chan struct{}{}, change: make(chan struct{})}
}

func (f *Faults) changed() {
	close(f.change)
	f.change = make(chan struct{})
}

// Add puts a rule in force and returns its ID.
func (f *Faults) Add(rule Fault) (string, error) {
	if !slices.Contains([]FaultKind{FaultError, FaultThrottle, FaultDelay, FaultDrop, FaultGarbage, FaultPause}, rule.Kind) {
		return "", postern.Invalid("kind", string(rule.Kind), "no such fault", "use error, throttle, delay, drop, garbage or pause")
	}
	switch rule.When {
	case BeforeCommit, AfterCommit:
	case "":
		rule.When = BeforeCommit
		if rule.Kind == FaultDrop || rule.Kind == FaultGarbage {
			rule.When = AfterCommit
		}
	default:
		return "", postern.Invalid("when", string(rule.When), "no such moment", "use before or after")
	}
	if rule.Kind == FaultError && rule.Code == "" {
		return "", postern.Invalid("code", "", "missing", `name the error, such as "InternalError"`)
	}
	if rule.Times < 0 || rule.Delay < 0 || (rule.Status != 0 && (rule.Status < 200 || rule.Status > 599)) {
		return "", postern.Invalid("times", strconv.Itoa(rule.Times), "times, delay_ns or status is out of range", "use times and delay_ns of at least 0 and an HTTP status")
	}
	if rule.Status == 0 {
		rule.Status = http.StatusInternalServerError
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	rule.ID = fmt.Sprintf("fault-%d", f.next)
	f.rules = append(f.rules, &rule)
	f.changed()
	return rule.ID, nil
}

// List are the rules in force.
func (f *Faults) List() []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Fault, len(f.rules))
	for i, r := range f.rules {
		out[i] = *r
	}
	return out
}

// Remove takes a rule out of force. Calls that it holds stay held.
func (f *Faults) Remove(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.rules)
	f.rules = slices.DeleteFunc(f.rules, func(r *Fault) bool { return r.ID == id })
	f.changed()
	return len(f.rules) < n
}

// Clear removes every rule and releases every held call.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
	for _, ch := range f.paused {
		close(ch)
	}
	clear(f.paused)
	f.changed()
}

// Calls are the last thousand verified calls, oldest first.
func (f *Faults) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Call, len(f.calls))
	for i, c := range f.calls {
		out[i] = *c
		out[i].Parameters = maps.Clone(c.Parameters)
	}
	return out
}

// Paused are the calls that are held.
func (f *Faults) Paused() []Call {
	return slices.DeleteFunc(f.Calls(), func(c Call) bool { return c.State != string(FaultPause) })
}

// WaitPaused waits until a call is held and returns it.
func (f *Faults) WaitPaused(ctx context.Context) (Call, error) {
	for {
		f.mu.Lock()
		change := f.change
		f.mu.Unlock()
		if held := f.Paused(); len(held) > 0 {
			return held[0], nil
		}
		select {
		case <-ctx.Done():
			return Call{}, fmt.Errorf("no call was held: %w", ctx.Err())
		case <-change:
		}
	}
}

// Release lets a held call go on, whether its client still waits or not.
func (f *Faults) Release(callID string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch, ok := f.paused[callID]
	if ok {
		close(ch)
		delete(f.paused, callID)
	}
	return ok
}

// faultRun is a call on its way through the rules that were in force when it
// arrived.
type faultRun struct {
	faults *Faults
	call   *Call
	rules  []Fault
}

// begin records a call and takes the rules that match it.
func (f *Faults) begin(c *call, accountName string) *faultRun {
	rec := &Call{
		ID: c.id, At: c.at, Service: c.service, Action: c.action, Account: c.caller.account, Region: c.region,
		Parameters: c.parameters(), State: "running",
	}
	run := &faultRun{faults: f, call: rec}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, rec)
	if len(f.calls) > keptCalls {
		f.calls = slices.Delete(f.calls, 0, len(f.calls)-keptCalls)
	}
	f.rules = slices.DeleteFunc(f.rules, func(r *Fault) bool {
		match := (r.Action == "" || r.Action == c.action) && (r.Region == "" || r.Region == c.region) &&
			(r.Account == "" || r.Account == c.caller.account || r.Account == accountName)
		if !match {
			return false
		}
		run.rules = append(run.rules, *r)
		if r.Times == 0 {
			return false
		}
		r.Times--
		return r.Times == 0
	})
	f.changed()
	return run
}

func (r *faultRun) mark(rule Fault, state string) {
	r.faults.mu.Lock()
	defer r.faults.mu.Unlock()
	r.call.Fault, r.call.State = rule.ID, state
	r.faults.changed()
}

func (r *faultRun) finish(err *apiError) {
	r.faults.mu.Lock()
	defer r.faults.mu.Unlock()
	r.call.State = "done"
	if err != nil {
		r.call.Code = err.Code
	}
	r.faults.changed()
}

// hold waits until the call is released or the server ends.
func (r *faultRun) hold(ctx context.Context, rule Fault) error {
	ch := make(chan struct{})
	r.faults.mu.Lock()
	r.faults.paused[r.call.ID] = ch
	r.faults.mu.Unlock()
	r.mark(rule, string(FaultPause))
	select {
	case <-ctx.Done():
		r.faults.Release(r.call.ID)
		return ctx.Err()
	case <-ch:
	}
	r.mark(rule, "running")
	return nil
}

// broken lets the rules of a moment strike, and tells whether one of them
// answered the call in its own way.
func (s *Server) broken(w http.ResponseWriter, run *faultRun, when FaultWhen) bool {
	for _, rule := range run.rules {
		if rule.When != when {
			continue
		}
		run.mark(rule, "running")
		switch rule.Kind {
		case FaultDelay:
			select {
			case <-s.ctx.Done():
			case <-time.After(rule.Delay):
			}
		case FaultPause:
			if err := run.hold(s.ctx, rule); err != nil {
				panic(http.ErrAbortHandler) // the server ends: no effect, no answer
			}
		case FaultError:
			e := &apiError{Code: rule.Code, Message: rule.Message, Status: rule.Status, documented: true}
			run.finish(e)
			s.writeError(w, run.call.Service, run.call.ID, e)
			return true
		case FaultThrottle:
			run.finish(throttled(run.call.Service))
			s.writeError(w, run.call.Service, run.call.ID, throttled(run.call.Service))
			return true
		case FaultGarbage:
			run.mark(rule, string(FaultGarbage))
			s.write(w, run.call.ID, http.StatusOK, []byte("\x00\xff<html>{\"not\": xml"))
			return true
		case FaultDrop:
			run.mark(rule, string(FaultDrop))
			if err := drop(w); err != nil {
				s.log.Warn("connection could not be dropped", "error", err)
			}
			panic(http.ErrAbortHandler)
		}
	}
	return false
}

// drop resets the client's connection.
func drop(w http.ResponseWriter) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	if tcp, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		err = tcp.SetLinger(0)
	}
	return errors.Join(err, conn.Close())
}
