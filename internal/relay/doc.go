// Package relay moves connections from listeners to backends without
// terminating TLS: it accepts, reads just enough to know who asks for what,
// has that judged, dials, and carries bytes both ways until both sides are
// done.
//
// The seam is [Engine.Serve] with a [Match]: the engine owns the sockets and
// the time, the match owns the decision and must not block. Package ingress
// gives the match and sees nothing of how bytes move.
//
// What an engine promises, of either kind:
//
//   - Every refusal looks the same on the wire: one TLS alert, then the end.
//     Which of the reasons it was goes to the [Observer] only.
//   - From a listener with the PROXY protocol, nothing is read from a source
//     that is not a load balancer, and only the first header is believed; one
//     that the client sent behind it is not TLS and thus refused.
//   - Who has not been judged yet costs little: a hello is parsed a bounded
//     number of times, however it is cut up, what hellos hold is bounded, and
//     neither one client nor one endpoint can take more than its share of the
//     connections. Engines share nothing: give each kind of listener its own.
//   - A half-close and a reset pass through, in both directions, and so does
//     what a side said before it reset.
//   - A backend gets no byte by rules that were out of force before the first.
//   - What is no longer admitted is cut by [Engine.Recheck], and nothing else.
//   - After [Engine.Shutdown] no goroutine and no socket is left.
//
// There are two kinds. Both use the same rules: match.go (what is judged),
// peek.go (what is read before that), limits.go (how many), refuse.go.
//
//   - [KindGoroutine], goroutines.go and session.go: two goroutines per
//     connection, over to splice(2) where much data flows. For every system,
//     and the one that the other is compared with.
//   - [KindEpoll], the files *_linux.go: event loops on epoll(7). A loop
//     (loop_linux.go) owns its connections (conn_linux.go), which go from
//     accept_linux.go to hello_linux.go, dial_linux.go and relay_linux.go;
//     no other goroutine touches them. docs/architecture.md explains it.
package relay
