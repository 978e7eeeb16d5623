package relay_test

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/relay"
)

// What hellos that are never completed hold is bounded by their bytes: when
// there are many large ones, the oldest are given up, and others are served.
func TestLargeHellosAreBounded(t *testing.T) { onEach(t, testLargeHellosAreBounded) }

func testLargeHellosAreBounded(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, config: relay.Config{Loops: 1, MaxPerClient: 10_000, HelloTimeout: patience}, match: to(b.addr)})
	large := hello(t, host, slices.Repeat([]string{strings.Repeat("p", 200)}, 60)...)
	part := large[:len(large)-1]
	const conns = 800
	most := (8 << 20) / len(part) // that are kept
	if conns-most < 100 {
		t.Fatalf("a hello of %d bytes is too small for this", len(large))
	}
	var first, last *net.TCPConn
	for range conns {
		last = dial(t, p.addr)
		if first == nil {
			first = last
		}
		send(t, last, part)
	}
	for _, r := range p.wait(t, "refused", conns-most) {
		if r.verdict.Deny != postern.DenyOverload {
			t.Fatalf("refused for %q", r.verdict.Deny)
		}
	}
	expectRefusal(t, first)
	send(t, last, large[len(part):])
	expect(t, b.accept(t), large)
}
