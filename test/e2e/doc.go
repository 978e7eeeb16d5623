// Package e2e holds the end-to-end suites that are written in Go; run.sh runs
// them together with those that drive other people's programs.
package e2e
