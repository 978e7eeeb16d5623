// Package relay moves connections from listeners to backends without
// terminating TLS: it accepts, reads just enough to know who asks for what,
// has that judged, dials, and carries bytes both ways until both sides are
// done.
//
// The seam is [Engine.Serve] with a [Match]: the engine owns the sockets and
// the time, the match owns the decision and must not block. Package ingress
// gives the match and sees nothing of how bytes move, so another engine can
// take this one's place.
//
// What the engine promises:
//
//   - Every refusal looks the same on the wire: one TLS alert, then the end.
//     Which of the reasons it was goes to the [Observer] only.
//   - From a listener with the PROXY protocol, nothing is read from a source
//     that is not a load balancer, and only the first header is believed; one
//     that the client sent behind it is not TLS and thus refused.
//   - Who has not been judged yet costs little: a hello is parsed a bounded
//     number of times, however it is cut up, and neither one client nor one
//     endpoint can take more than its share of the connections. Engines share
//     nothing: give each kind of listener its own.
//   - A half-close and a reset pass through, in both directions.
//   - What is no longer admitted is cut by [Engine.Recheck], and nothing else.
//   - After [Engine.Shutdown] no goroutine and no socket is left.
//
// This engine uses two goroutines per connection and goes over to splice(2)
// where much data flows.
package relay
