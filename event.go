package postern

import "time"

// Event is one line of the append-only record of who did what and what the
// loop did.
type Event struct {
	Seq          int64     // ascending, never reused
	At           time.Time //
	Actor        string    // a token's name, or "loop"
	Action       string    // "endpoint.claimed", "endpoint.state", "account.proven" …
	Kind         string    // "endpoint", "account", "tenant", "organization", "token", "service", "node", "data-connection"
	Subject      string    // the object's ID
	Organization string    // whose it is; "" for the platform's own
	Message      string    // one sentence for people; no secrets
}
