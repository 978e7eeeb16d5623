// Package nodelink carries route tables from the control plane down to the
// data-plane nodes, and what was seen there up again.
//
// Down: a snapshot, then deltas by revision, one JSON message a line. Up:
// numbered reports, each sent until it was taken, so that what is counted is
// neither lost nor doubled.
//
// A node is statically stable: it keeps the last table on disk, and starts and
// serves with it when the control plane is gone. What it does not understand
// leaves the table in force as it is. It never fails open: without a table, or
// fenced, it refuses everything.
//
// A node knows every field of the tables that it is sent or refuses them, so
// that it never serves a table whose restrictions it has not understood: nodes
// are upgraded before the control plane. The control plane ignores what newer
// nodes add to their reports.
package nodelink
