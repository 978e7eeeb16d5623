package relay_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/postern-net/postern/internal/relay"
)

// A backend that answers early and closes with unread bytes, as a server does
// that refuses a large request, is heard all the same.
func TestLastWords(t *testing.T) { onEach(t, testLastWords) }

func testLastWords(t *testing.T, kind relay.Kind) {
	t.Parallel()
	b := listen(t)
	p := start(t, setup{kind: kind, match: to(b.addr)})
	answer := bytes.Repeat([]byte("too large"), 900)
	const rounds = 60
	whole := 0
	for range rounds {
		c, s := connect(t, p, b)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for piece := make([]byte, 64<<10); ; {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		}()
		_, err := io.ReadFull(s, make([]byte, 200<<10))
		must(t, err)
		send(t, s, answer)
		must(t, s.Close())
		if got, _ := io.ReadAll(c); bytes.Equal(got, answer) { // it ends with a reset
			whole++
		}
		must(t, c.Close())
		<-sent
	}
	if whole != rounds {
		t.Errorf("%d of %d answers came through", whole, rounds)
	}
	for _, r := range p.wait(t, "closed", rounds) {
		if r.stats.End != relay.EndReset || r.stats.Down != int64(len(answer)) {
			t.Fatalf("ended with %+v", r.stats)
		}
	}
}
