package serve

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/certcheck"
	"github.com/postern-net/postern/internal/scim"
)

// SCIMDoors are the doors of several regions, as one process has them.
type SCIMDoors struct{ d *scimDoors }

// NewSCIMDoors has manage told the hosts that certificates are kept for.
func NewSCIMDoors(manage func(hosts []string), doors map[string]*scim.Door) SCIMDoors {
	return SCIMDoors{&scimDoors{doors: doors, manage: manage}}
}

// Apply puts a table in force in every region.
func (d SCIMDoors) Apply(r postern.Routes) error { return d.d.Apply(r) }

// OpenCertificates reads the certificates of a config's SCIM doors, and then those
// of its egresses.
func OpenCertificates(c Config) (ofSCIM, ofEgress error) {
	log := slog.New(slog.DiscardHandler)
	_, ofSCIM = (&scimDoors{}).certificates(c, log)
	_, ofEgress = newExits(c, certcheck.Config{}, log, log, prometheus.NewRegistry())
	return ofSCIM, ofEgress
}

// TellClusters has a node tell what it found, and returns of which connections it
// has to be told again.
func TellClusters(ctx context.Context, to *client.Client, log *slog.Logger, found []client.ClusterLook) (left []string) {
	l := &lookout{node: "out-a", log: log, found: map[string]client.ClusterLook{}}
	for _, f := range found {
		l.found[f.ConnectionID] = f
	}
	l.tell(ctx, to)
	return slices.Sorted(maps.Keys(l.found))
}
