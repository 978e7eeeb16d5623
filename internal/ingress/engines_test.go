package ingress_test

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/ingress"
	"github.com/postern-net/postern/internal/proxyproto"
	"github.com/postern-net/postern/internal/relay"
)

// With an engine for each kind of listener, one that is full leaves the other
// alone, and a new table is obeyed by both.
func TestEnginesOfTheirOwn(t *testing.T) {
	t.Parallel()
	limits := relay.Config{MaxConnections: 1}
	engines := map[string]*relay.Engine{ingress.Private: relay.New(limits), ingress.Public: relay.New(limits)}
	in, err := ingress.New(ingress.Config{
		Region: region, Engine: engines[ingress.Private], PublicEngine: engines[ingress.Public],
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serve := func(e *relay.Engine, f func(relay.Acceptor) error) string {
		ln, err := e.Listen(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		serving.Go(func() {
			if err := f(ln); err != nil {
				t.Error(err)
			}
		})
		return ln.Addr().String()
	}
	privately := serve(engines[ingress.Private], func(ln relay.Acceptor) error {
		return in.ServePrivate(ln, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	})
	publicly := serve(engines[ingress.Public], in.ServePublic)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		for _, e := range engines {
			if err := e.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		}
		serving.Wait()
	})
	d := &door{backend: tell(t)}
	apply(t, in, d.routes(1))

	open, got := ask(t, publicly, hello(t, globex))
	if got == nil {
		t.Fatal("the public listener does not work")
	}
	if _, got := ask(t, publicly, hello(t, globex)); got != nil {
		t.Error("the public listener has no limit")
	}
	through, got := ask(t, privately, append(proxyproto.AppendAWS(nil, client, target, exampleID), hello(t, example)...))
	if got == nil {
		t.Fatal("a full public listener shuts the private one")
	}
	apply(t, in, postern.Routes{Revision: 2})
	for _, c := range []interface{ Read([]byte) (int, error) }{open, through} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection that the new table does not grant lives on")
		}
	}
	for name, e := range engines {
		for deadline := time.After(30 * time.Second); e.Connections() > 1; { // one is the refused one, which lingers
			select {
			case <-time.After(time.Millisecond):
			case <-deadline:
				t.Fatalf("%d %s connections are left", e.Connections(), name)
			}
		}
	}
}
