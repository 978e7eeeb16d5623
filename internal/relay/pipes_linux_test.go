package relay_test

import (
	"testing"

	"github.com/postern-net/postern/internal/relay"
)

// Where no pipe can be made, it is tried once in a tick, and not with every
// read. It does not run with others, for it takes all descriptors.
func TestPipesAreScarce(t *testing.T) {
	var p relay.Pipes
	t.Cleanup(p.Close)
	restore := exhaust(t)
	if p.Borrow() {
		t.Error("a pipe without descriptors")
	}
	restore()
	if p.Borrow() {
		t.Error("it is tried again at once")
	}
	p.Tick()
	if !p.Borrow() {
		t.Error("it is not tried again in the next tick")
	}
}
