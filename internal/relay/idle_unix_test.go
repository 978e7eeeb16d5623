//go:build unix

package relay_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postern-net/postern/internal/relay"
)

// peersAsked is set in the process that has both ends of the idle connections:
// with those of the proxy they are more than most processes may have descriptors.
const peersAsked = "POSTERN_TEST_PEERS"

// idleConns is nine thousand, or on a small machine as many as leave Linux room
// for closed connections: at two of each, of both engines, of other tests, and of
// a run before, for a minute. What it has no room for it forgets, and resets
// what still comes for it: no close is orderly any more.
var idleConns = sync.OnceValue(func() int {
	const most, share = 9000, 14
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_max_tw_buckets")
	if err != nil {
		return most // not Linux, or a sandbox
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return most
	}
	return min(most, n/share)
})

// Thousands of connections on which nothing moves cost the loops no goroutine,
// live on, and are gone without a trace when they end.
func TestManyIdle(t *testing.T) {
	allowDescriptors(t, 2*idleConns()+500)
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			before := counted(t)
			t.Run("play", func(t *testing.T) { holdIdle(t, kind) })
			// Go's own poller and the like may have come to stay.
			eventually(t, func() bool {
				after := counted(t)
				return after.fds <= before.fds+3 && after.goroutines <= before.goroutines+1
			}, func() { t.Errorf("%+v before, %+v after", before, counted(t)) })
		})
	}
}

func holdIdle(t *testing.T, kind relay.Kind) {
	t.Helper()
	peers := startPeers(t)
	at := netip.MustParseAddrPort(peers.read(t))
	p := start(t, setup{kind: kind, config: relay.Config{MaxPerClient: 2 * idleConns()}, match: to(at)})
	before := runtime.NumGoroutine()
	peers.do(t, p.addr) // has them opened
	if n := len(p.wait(t, "opened", idleConns())); n != idleConns() || p.Connections() != n {
		t.Errorf("%d opened, %d connections", n, p.Connections())
	}
	if n := runtime.NumGoroutine() - before; kind == relay.KindEpoll && n > 10 {
		t.Errorf("%d goroutines for %d connections", n, idleConns())
	}
	// All are judged again, in the time that a revocation may take; once in
	// three times, for the machine may be busy.
	var fastest time.Duration
	for range 3 {
		began := time.Now()
		p.Recheck()
		if d := time.Since(began); fastest == 0 || d < fastest {
			fastest = d
		}
	}
	if fastest > time.Second {
		t.Errorf("judging %d connections again took %v", idleConns(), fastest)
	}
	peers.do(t, "talk")
	if n := p.Connections(); n != idleConns() {
		t.Errorf("%d connections are left", n)
	}
	peers.do(t, "close")
	eventually(t, func() bool { return p.Connections() == 0 }, func() { t.Errorf("%d connections do not end", p.Connections()) })
	for _, r := range p.wait(t, "closed", idleConns()) {
		if r.stats.End != relay.EndFinished || r.stats.Down != 1 {
			t.Fatalf("ended with %+v", r.stats)
		}
	}
}

// peers is the process that has both ends. It does what it is told by lines,
// and answers with one line each.
type peers struct {
	say  io.WriteCloser
	hear *bufio.Reader
}

func startPeers(t *testing.T) *peers {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	c := exec.CommandContext(context.WithoutCancel(t.Context()), self, "-test.run=^TestPeers$")
	c.Env = append(os.Environ(), peersAsked+"=1")
	c.Stderr = os.Stderr
	say, err := c.StdinPipe()
	must(t, err)
	hear, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	t.Cleanup(func() {
		_ = say.Close()
		_, _ = io.Copy(io.Discard, hear)
		if err := c.Wait(); err != nil {
			t.Errorf("the peers: %v", err)
		}
	})
	return &peers{say, bufio.NewReader(hear)}
}

// read reads an answer: what is behind the colon.
func (p *peers) read(t *testing.T) string {
	t.Helper()
	var what string
	if _, err := fmt.Fscanf(p.hear, "peers: %s\n", &what); err != nil {
		rest, _ := io.ReadAll(p.hear)
		t.Fatalf("the peers fail: %v; %s", err, rest)
	}
	return what
}

func (p *peers) do(t *testing.T, what string) {
	t.Helper()
	_, err := fmt.Fprintln(p.say, what)
	must(t, err)
	if got := p.read(t); got != what {
		t.Fatalf("the peers did %q, want %q", got, what)
	}
}

// TestPeers is the process of TestManyIdle, and nothing otherwise.
func TestPeers(t *testing.T) {
	if os.Getenv(peersAsked) == "" {
		t.Skip("this is a part of TestManyIdle")
	}
	allowDescriptors(t, 2*idleConns()+500)
	b, h := listen(t), hello(t, host)
	fmt.Fprintln(os.Stdout, "peers:", b.addr)
	var clients, servers []*net.TCPConn
	told := bufio.NewScanner(os.Stdin)
	for told.Scan() {
		switch what := told.Text(); what {
		default: // the proxy's address
			for range idleConns() {
				c := dial(t, what)
				send(t, c, h)
				s := b.accept(t)
				expect(t, s, h)
				clients, servers = append(clients, c), append(servers, s)
			}
		case "talk":
			for i, c := range clients {
				s := servers[i]
				must(t, c.SetDeadline(time.Now().Add(patience)))
				must(t, s.SetDeadline(time.Now().Add(patience)))
				send(t, c, []byte{byte(i), 2})
				expect(t, s, []byte{byte(i), 2})
				send(t, s, []byte{byte(i)})
				expect(t, c, []byte{byte(i)})
			}
		case "close":
			for i, c := range clients {
				must(t, c.CloseWrite())
				must(t, servers[i].Close())
				must(t, c.Close())
			}
		}
		fmt.Fprintln(os.Stdout, "peers:", told.Text())
	}
}

// allowDescriptors raises the limit of this process, or skips the test.
func allowDescriptors(t *testing.T, n int) {
	t.Helper()
	var l syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l))
	if l.Cur >= uint64(n) {
		return
	}
	l.Cur, l.Max = uint64(n), max(l.Max, uint64(n))
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Skipf("this needs %d descriptors and is not allowed them (%v); raise the hard limit, as with ulimit -Hn %d, or LimitNOFILE", n, err, n)
	}
}
