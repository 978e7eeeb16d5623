package postern

import "time"

// Withdrawal is a way in that was taken away and that nodes may still offer: it
// is kept until every node has acknowledged a route table without it, or is
// fenced. What was asked for is done when the request is answered; whether it is
// so is told by an event.
type Withdrawal struct {
	Kind         WithdrawalKind
	Tenant       string
	Organization string
	At           time.Time // when it was asked for
	Revision     int64     // of the first route table without it; 0: none was published yet
	Told         bool      // that it takes long
}

// WithdrawalKind is what was taken away.
type WithdrawalKind string

// The kinds of withdrawals.
const (
	WithdrawnTenant WithdrawalKind = "tenant" // it was deleted, with all of its hosts
	WithdrawnSCIM   WithdrawalKind = "scim"   // its SCIM ingress was turned off, or other networks were named
)
