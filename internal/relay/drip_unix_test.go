//go:build unix

package relay_test

import (
	"encoding/binary"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/clienthello"
	"github.com/postern-net/postern/internal/relay"
)

// perRecord puts a hello into records of so many bytes each.
func perRecord(hello []byte, size int) []byte {
	var out []byte
	for part := range slices.Chunk(hello[5:], size) {
		out = append(out, 0x16, 3, 1)
		out = binary.BigEndian.AppendUint16(out, uint16(len(part)))
		out = append(out, part...)
	}
	return out
}

// spent is the processor time that this process has used.
func spent(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A client that sends byte after byte costs the system calls and little more.
// The test is alone, for it measures what the whole process spends: about a
// tenth of a second; parsing from the start at every byte took a hundred.
func TestDrippingCostsLittle(t *testing.T) {
	for _, kind := range kinds() { // one after the other
		t.Run(string(kind), func(t *testing.T) { testDrippingCostsLittle(t, kind) })
	}
}

func testDrippingCostsLittle(t *testing.T, kind relay.Kind) {
	t.Helper()
	const budget = 3 * time.Second
	b := listen(t)
	p := start(t, setup{kind: kind, match: to(b.addr)})
	large := hello(t, host, slices.Repeat([]string{strings.Repeat("p", 200)}, 60)...)
	before := spent(t)

	drip := func(in []byte) {
		c := dial(t, p.addr)
		for i := range in {
			if _, err := c.Write(in[i : i+1]); err != nil {
				return // it was refused
			}
		}
	}
	allowed := perRecord(large, len(large)/(clienthello.MaxRecords-1))
	drip(allowed)
	expect(t, b.accept(t), allowed)
	drip(perRecord(large, 1))
	if r := p.wait(t, "refused", 1)[0]; r.verdict.Deny != postern.DenyBadHello {
		t.Errorf("refused for %q (%v)", r.verdict.Deny, r.verdict.Cause)
	}
	if used := spent(t) - before; used > budget {
		t.Errorf("two dripping clients took %v of the processor", used)
	}

	// What is too much is refused before it is complete.
	c := dial(t, p.addr)
	send(t, c, perRecord(large, 1)[:6*clienthello.MaxRecords])
	expectRefusal(t, c)
}
