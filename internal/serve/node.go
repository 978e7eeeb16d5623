package serve

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/nodelink"
)

// link is how a node reaches the control plane.
type link struct {
	url, token string
	cas        *x509.CertPool
}

// linkTimeout bounds the wait for an answer of the control plane.
const linkTimeout = 5 * time.Second

// makeNode makes this process's node, linked as the config says, or to the
// control plane in this process.
func (s *Server) makeNode(own link) error {
	to := own
	if !s.config.ownControl() {
		var err error
		if to, err = s.configuredLink(); err != nil {
			return err
		}
	}
	c, err := client.New(to.url, client.Options{Token: to.token, CAs: to.cas, Timeout: linkTimeout})
	if err != nil {
		return fmt.Errorf("node.control_url: %w", err)
	}
	s.closers = append(s.closers, func() error { c.Close(); return nil })
	s.link = c
	var out []string
	if s.exits != nil {
		out = s.exits.ids()
	}
	s.node = nodelink.New(nodelink.Config{
		ID: s.config.Node.ID, Regions: s.gates.ids(), Egress: out, Version: s.options.Version, Link: c, Doors: s.gates,
		CacheFile: filepath.Join(s.config.StateDir, "routes.json"), Logger: s.options.Logger,
	})
	return s.measureNode()
}

func (s *Server) configuredLink() (link, error) {
	n := s.config.Node
	to := link{url: n.ControlURL}
	var err error
	if to.token, err = readSecret(n.TokenFile); err != nil {
		return to, fmt.Errorf("node.token_file: %w", err)
	}
	if n.CAFile == "" {
		return to, nil
	}
	pem, err := os.ReadFile(n.CAFile)
	if err != nil {
		return to, fmt.Errorf("node.ca_file: %w", err)
	}
	to.cas = x509.NewCertPool()
	if !to.cas.AppendCertsFromPEM(pem) {
		return to, postern.Invalid("node.ca_file", n.CAFile, "holds no PEM certificate", "give the certificates of the authorities that may sign the API's")
	}
	return to, nil
}

// runNode keeps the node linked until Stop.
func (s *Server) runNode(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var probing sync.WaitGroup
		if s.doors != nil {
			probing.Go(func() { s.probeBackends(ctx, s.link) })
		}
		if s.exits != nil {
			probing.Go(func() { s.exits.lookout.run(ctx, s.link) })
		}
		s.node.Run(ctx)
		probing.Wait()
	}()
	s.stopNode = func() {
		cancel()
		<-done
	}
}

// measureNode registers what the metrics tell of the link.
func (s *Server) measureNode() error {
	gauge := func(name, help string, is func(nodelink.Status) bool) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if is(s.node.Status()) {
				return 1
			}
			return 0
		})
	}
	for _, g := range []prometheus.Collector{
		gauge("postern_node_linked", "1 while the stream of routes from the control plane is open.", func(n nodelink.Status) bool { return n.Connected }),
		gauge("postern_node_fenced", "1 while the control plane says that this node is fenced.", func(n nodelink.Status) bool { return n.Fenced }),
	} {
		if err := s.registry.Register(g); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}
