package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/sandbox/trino"
)

// openClusters runs the customers' clusters, each with a good certificate and a
// switch on loopback by which a person replaces it.
func (s *Sandbox) openClusters(ctx context.Context) error {
	s.clusters, s.switches = map[string]*trino.Cluster{}, map[string]string{}
	for id, place := range s.places.outbound.clusters {
		pair, err := s.authority.certificate(certificateGood, place.hostname)
		if err != nil {
			return err
		}
		c, err := trino.Start(ctx, netip.AddrPortFrom(place.at, s.httpsPort), strings.ReplaceAll(id, "-", "_"), pair, s.options.Logger.With("of", "trino"))
		if err != nil {
			return fmt.Errorf("the cluster of %s: %w", id, err)
		}
		s.stops = append(s.stops, c.Close)
		s.clusters[id] = c
		if s.switches[id], err = s.openSwitch(ctx, id); err != nil {
			return fmt.Errorf("the switch of the cluster of %s: %w", id, err)
		}
	}
	return nil
}

// PresentCertificate has an organization's cluster present a certificate of a
// kind to connections that are made from now on.
func (s *Sandbox) PresentCertificate(organization, kind string) error {
	cluster, ok := s.clusters[organization]
	if !ok {
		return postern.Invalid("organization", organization, "has no cluster", "use one of those in sandbox.json")
	}
	pair, err := s.authority.certificate(kind, s.places.outbound.clusters[organization].hostname)
	if err == nil {
		cluster.Present(pair)
	}
	return err
}

// openSwitch listens for POST /certificate/KIND and POST /starting/true.
func (s *Sandbox) openSwitch(ctx context.Context, organization string) (string, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /certificate/{kind}", func(w http.ResponseWriter, r *http.Request) {
		kind := r.PathValue("kind")
		if !slices.Contains(certificateKinds(), kind) {
			http.Error(w, "no such kind; use one of "+strings.Join(certificateKinds(), ", "), http.StatusNotFound)
			return
		}
		if err := s.PresentCertificate(organization, kind); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /starting/{is}", func(w http.ResponseWriter, r *http.Request) {
		s.clusters[organization].SetStarting(r.PathValue("is") == "true")
		w.WriteHeader(http.StatusNoContent)
	})
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", netip.AddrPortFrom(loopback, 0).String())
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			s.options.Logger.Error("a cluster's switch ended", "organization", organization, "error", err)
		}
	}()
	s.stops = append(s.stops, func() {
		_ = server.Close() // what is cut is a person's own
		<-done
	})
	return "http://" + ln.Addr().String(), nil
}
