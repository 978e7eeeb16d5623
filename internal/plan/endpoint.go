package plan

import (
	"slices"
	"time"

	"github.com/postern-net/postern"
)

// EndpointView is what is known about one endpoint in a round.
type EndpointView struct {
	Observed    bool                // its service answered
	Connection  *postern.Connection // nil: the service does not list it
	OwnerProven bool
	HasTenant   bool   // there is something for it to reach
	AcceptError string // why AWS last refused to accept it
	Rules       Rules
	Now         time.Time
}

// EndpointStep is what one round makes of one endpoint.
type EndpointStep struct {
	After  postern.Endpoint
	Delete bool       // nothing is left: drop the row
	Action ActionKind // Accept, Reject or ""
	Why    string
}

// Endpoint decides what an endpoint's status is and what to do about it. It
// accepts nothing that is not claimed, approved and owned by a proven account;
// whatever loses one of these is rejected.
func Endpoint(e postern.Endpoint, v EndpointView) EndpointStep {
	if e.Removing {
		return removeEndpoint(e, v)
	}
	s := EndpointStep{After: e}
	a := &s.After
	observe(a, v)
	v.condition(a, provenCondition(*a, v))
	approve(a, v)
	v.condition(a, approvedCondition(*a))
	connected, state := connectedCondition(*a, v)
	v.condition(a, connected)
	a.State = state
	final := !live(state)
	if !v.OwnerProven && !final {
		a.State = postern.EndpointRejected
	}
	v.condition(a, readyCondition(*a, v))
	if v.Connection == nil || final {
		return s
	}
	switch {
	case !v.OwnerProven:
		s.Action, s.Why = Reject, "its AWS account is not proven for the organization"
	case v.Connection.State == postern.ConnectionPendingAcceptance && !a.Approval.At.IsZero():
		s.Action, s.Why = Accept, "claimed, its AWS account is proven, approved by "+a.Approval.By
	}
	return s
}

func (v EndpointView) condition(e *postern.Endpoint, c postern.Condition) {
	c.Since = v.Now
	e.Conditions = postern.SetCondition(e.Conditions, c)
}

// observe copies what AWS says; an endpoint that is not listed keeps what was
// known of it.
func observe(e *postern.Endpoint, v EndpointView) {
	switch c := v.Connection; {
	case c != nil:
		e.MissingSince = time.Time{}
		e.Owner, e.EndpointRegion = c.Owner, c.EndpointRegion
		if len(c.DNSNames) > 0 {
			e.DNSNames = slices.Clone(c.DNSNames)
		}
	case v.Observed && e.MissingSince.IsZero():
		e.MissingSince = v.Now
	}
}

func approve(e *postern.Endpoint, v EndpointView) {
	if e.Approval.At.IsZero() && v.Rules.Automatic && v.OwnerProven {
		e.Approval = postern.Approval{By: "policy", At: v.Now}
	}
}

func provenCondition(e postern.Endpoint, v EndpointView) postern.Condition {
	if v.OwnerProven {
		return postern.Condition{
			Type: postern.AccountProven, Status: postern.True, Reason: postern.ReasonProven,
			Message: "the organization proved that it holds AWS account " + e.Owner,
		}
	}
	return postern.Condition{
		Type: postern.AccountProven, Status: postern.False, Reason: postern.ReasonNotProven,
		Message: "AWS account " + e.Owner + " is not proven for the organization; prove it with `postern account prove`, create a new endpoint and claim that",
	}
}

func approvedCondition(e postern.Endpoint) postern.Condition {
	switch {
	case e.Approval.At.IsZero():
		return postern.Condition{
			Type: postern.Approved, Status: postern.False, Reason: postern.ReasonWaitsForApproval,
			Message: "waits for the vendor's approval (`postern endpoint approve " + e.ID + "`)",
		}
	case e.Approval.By == "policy":
		return postern.Condition{
			Type: postern.Approved, Status: postern.True, Reason: postern.ReasonApprovedByPolicy,
			Message: "approved by policy: its AWS account is proven",
		}
	}
	return postern.Condition{
		Type: postern.Approved, Status: postern.True, Reason: postern.ReasonApprovedByOperator,
		Message: "approved by " + e.Approval.By,
	}
}

// connectedCondition says what AWS says, and the state that follows from it.
func connectedCondition(e postern.Endpoint, v EndpointView) (postern.Condition, postern.EndpointState) {
	c := postern.Condition{Type: postern.Connected, Status: postern.False}
	if v.Connection == nil {
		return absentCondition(e, v)
	}
	switch v.Connection.State {
	case postern.ConnectionPendingAcceptance:
		if e.Approval.At.IsZero() {
			c.Reason, c.Message = postern.ReasonWaitsForAcceptance, "is accepted at AWS once it is approved"
			return c, postern.EndpointRequested
		}
		c.Reason, c.Message = postern.ReasonWaitsForAcceptance, "is being accepted at AWS"
		if v.AcceptError != "" {
			c.Reason, c.Message = postern.ReasonAcceptFailed, "AWS did not accept the connection: "+v.AcceptError+"; Postern tries again"
		}
		return c, postern.EndpointPendingAcceptance
	case postern.ConnectionPending:
		c.Reason, c.Message = postern.ReasonConnecting, "accepted; AWS is connecting it, which takes a minute or two"
		return c, orRequested(e, postern.EndpointPending)
	case postern.ConnectionAvailable:
		c.Status, c.Reason, c.Message = postern.True, postern.ReasonAvailable, "AWS carries its traffic"
		return c, orRequested(e, postern.EndpointReady)
	case postern.ConnectionDeleting, postern.ConnectionDeleted:
		c.Reason, c.Message = postern.ReasonDeleted, "the endpoint was deleted in its AWS account; create a new one and claim that"
		return c, postern.EndpointDisconnected
	case postern.ConnectionRejected:
		c.Reason, c.Message = postern.ReasonRejected, "the connection was rejected; create a new endpoint and claim that"
		return c, postern.EndpointRejected
	case postern.ConnectionExpired:
		c.Reason, c.Message = postern.ReasonExpired, "AWS let the connection request expire; create a new endpoint and claim that"
		return c, postern.EndpointExpired
	case postern.ConnectionFailed:
		c.Reason, c.Message = postern.ReasonFailed, "AWS could not create the endpoint; delete it, look at its lastError, create a new one and claim that"
		return c, postern.EndpointFailed
	}
	c.Status, c.Reason, c.Message = postern.Unknown, postern.ReasonNotObserved, "AWS reports the state "+string(v.Connection.State)+", which Postern does not know"
	return c, withoutTraffic(e.State)
}

// orRequested keeps an endpoint that AWS carries, but nobody approved, out.
func orRequested(e postern.Endpoint, s postern.EndpointState) postern.EndpointState {
	if e.Approval.At.IsZero() {
		return postern.EndpointRequested
	}
	return s
}

// withoutTraffic is the state of an endpoint of which nothing good is known.
func withoutTraffic(s postern.EndpointState) postern.EndpointState {
	if s == postern.EndpointReady {
		return postern.EndpointPending
	}
	return s
}

func absentCondition(e postern.Endpoint, v EndpointView) (postern.Condition, postern.EndpointState) {
	c := postern.Condition{Type: postern.Connected, Status: postern.Unknown}
	switch {
	case !live(e.State): // final, and AWS forgot it
		if last := postern.FindCondition(e.Conditions, postern.Connected); last.Type != "" {
			return last, e.State
		}
		c.Reason, c.Message = postern.ReasonNotListed, "AWS does not list the endpoint any more; create a new one and claim that"
		return c, e.State
	case !v.Observed:
		c.Reason, c.Message = postern.ReasonNotObserved, "AWS did not answer for the service in "+e.ServiceRegion+"; this is what was seen last"
		return c, e.State
	case v.Now.Sub(e.MissingSince) < v.Rules.MissingGrace:
		c.Reason, c.Message = postern.ReasonNotListed, "AWS does not list the endpoint; if it stays so, it counts as deleted"
		return c, e.State
	}
	c.Status, c.Reason, c.Message = postern.False, postern.ReasonDeleted, "the endpoint is gone from AWS; create a new one and claim that"
	return c, postern.EndpointDisconnected
}

func readyCondition(e postern.Endpoint, v EndpointView) postern.Condition {
	c := postern.Condition{Type: postern.Ready, Status: postern.False}
	switch {
	case e.State != postern.EndpointReady:
		c.Reason, c.Message = postern.ReasonNotReady, "see the other conditions"
	case !v.HasTenant:
		c.Reason, c.Message = postern.ReasonNoTenant, "the organization has no tenant in this endpoint's segment; create one, or an endpoint in the segment of a tenant"
	default:
		c.Status, c.Reason, c.Message = postern.True, postern.ReasonBytesPass, "bytes pass to its tenants"
	}
	return c
}

// live tells whether an endpoint in this state may still carry traffic one
// day; AWS never revives the others.
func live(s postern.EndpointState) bool {
	switch s {
	case postern.EndpointRequested, postern.EndpointPendingAcceptance, postern.EndpointPending, postern.EndpointReady:
		return true
	case postern.EndpointRejected, postern.EndpointDisconnected, postern.EndpointExpired, postern.EndpointFailed, postern.EndpointRemoving:
	}
	return false
}

// removeEndpoint takes a claim back: the connection is rejected, and the row
// goes when AWS carries nothing of it any more.
func removeEndpoint(e postern.Endpoint, v EndpointView) EndpointStep {
	s := EndpointStep{After: e}
	s.After.State = postern.EndpointRemoving
	v.condition(&s.After, postern.Condition{
		Type: postern.Connected, Status: postern.False, Reason: postern.ReasonRemoving,
		Message: "the claim was taken back; the connection is being rejected",
	})
	v.condition(&s.After, postern.Condition{Type: postern.Ready, Status: postern.False, Reason: postern.ReasonNotReady, Message: "see the other conditions"})
	if v.Observed && v.Connection == nil && s.After.MissingSince.IsZero() {
		s.After.MissingSince = v.Now
	}
	switch {
	case !v.Observed:
		return s
	case v.Connection == nil:
		// A listing that lags behind must not leave a connection at AWS that
		// nobody claims.
		s.Delete = v.Now.Sub(s.After.MissingSince) >= v.Rules.MissingGrace
		return s
	}
	s.After.MissingSince = time.Time{}
	switch v.Connection.State {
	case postern.ConnectionDeleting, postern.ConnectionDeleted, postern.ConnectionRejected, postern.ConnectionFailed, postern.ConnectionExpired:
		s.Delete = true
	case postern.ConnectionPendingAcceptance, postern.ConnectionPending, postern.ConnectionAvailable:
		s.Action, s.Why = Reject, "the claim was taken back"
	default: // a state that AWS made up since: it may carry traffic
		s.Action, s.Why = Reject, "the claim was taken back"
	}
	return s
}

// sameEndpoint compares what a round may change.
func sameEndpoint(a, b postern.Endpoint) bool {
	return a.State == b.State && a.Approval == b.Approval && a.Owner == b.Owner && a.EndpointRegion == b.EndpointRegion &&
		a.MissingSince.Equal(b.MissingSince) && slices.Equal(a.DNSNames, b.DNSNames) &&
		slices.EqualFunc(a.Conditions, b.Conditions, func(x, y postern.Condition) bool {
			return x.Type == y.Type && x.Status == y.Status && x.Reason == y.Reason && x.Message == y.Message
		})
}
