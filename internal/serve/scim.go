package serve

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/acme"
	"github.com/postern-net/postern/internal/scim"
)

// scimDoors are the SCIM-only ingresses of this process, one per region that
// has one.
type scimDoors struct {
	config []Ingress
	doors  map[string]*scim.Door
	acme   *acme.Certificates   // one for all doors; nil: certificates come from files
	manage func(hosts []string) // names the hosts that certificates are kept for
	work   sync.WaitGroup
}

// newSCIMDoors makes them; none listens yet, and each refuses everybody until
// it is given routes.
func newSCIMDoors(c Config, access, log *slog.Logger, reg prometheus.Registerer) (*scimDoors, error) {
	d := &scimDoors{config: c.Ingress, doors: map[string]*scim.Door{}, manage: func([]string) {}}
	if !c.hasSCIM() {
		return d, nil
	}
	certificates, err := d.certificates(c, log)
	if err != nil {
		return nil, err
	}
	roots, err := readRoots("scim.backend_ca_file", c.SCIM.BackendCAFile)
	if err != nil {
		return nil, err
	}
	for _, in := range c.Ingress {
		if !in.SCIM.IsValid() {
			continue
		}
		made, err := scim.New(scim.Config{
			Region: in.Region, Certificates: certificates, BackendRoots: roots, AccessLog: access.With("region", in.Region), LogRate: c.AccessLogRate, Logger: log,
			Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"region": in.Region}, reg),
			Limits: scim.Limits{
				MaxBody: c.SCIM.MaxBody, HelloTimeout: c.Limits.HelloTimeout, RequestTimeout: c.SCIM.RequestTimeout,
				MaxConnections: c.SCIM.MaxConnections, MaxRequests: c.SCIM.MaxRequests, RequestsPerSecond: float64(c.SCIM.RequestsPerSecond),
			},
		})
		if err != nil {
			return nil, fmt.Errorf("the SCIM ingress in %s: %w", in.Region, err)
		}
		d.doors[in.Region] = made
	}
	return d, nil
}

// certificates are what the doors show: one for all of them.
func (d *scimDoors) certificates(c Config, log *slog.Logger) (scim.Certificates, error) {
	if c.SCIM.ACME.DirectoryURL == "" {
		if err := checkKey("scim.key_file", c.SCIM.KeyFile); err != nil {
			return nil, err
		}
		f, err := scim.OpenFiles(c.SCIM.CertificateFile, c.SCIM.KeyFile, log)
		if err != nil {
			return nil, fmt.Errorf("scim.certificate_file: %w", err)
		}
		return f, nil
	}
	roots, err := readRoots("scim.acme.ca_file", c.SCIM.ACME.CAFile)
	if err != nil {
		return nil, err
	}
	a := acme.Config{Directory: c.SCIM.ACME.DirectoryURL, Roots: roots, Email: c.SCIM.ACME.Email, Storage: c.SCIM.ACME.Storage, Logger: log}
	for _, in := range c.Ingress {
		if in.SCIM.IsValid() {
			a.Door = in.SCIM
		}
	}
	if d.acme, err = acme.New(a); err != nil {
		return nil, fmt.Errorf("scim.acme: %w", err)
	}
	d.manage = d.acme.Manage
	return d.acme, nil
}

// readRoots reads a PEM file of authorities; "" is the system's.
func readRoots(field, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // the system's roots
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, postern.Invalid(field, file, "holds no PEM certificate", "give the certificates of the authorities that are to be trusted")
	}
	return pool, nil
}

// open listens. An error that ends a listener later goes to fail.
func (d *scimDoors) open(ctx context.Context, fail func(error)) error {
	for _, in := range d.config {
		door, ok := d.doors[in.Region]
		if !ok {
			continue
		}
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", in.SCIM.String())
		if err != nil {
			return fmt.Errorf("the SCIM ingress in %s: %w", in.Region, err)
		}
		d.work.Go(func() {
			if err := door.Serve(ln); err != nil {
				fail(fmt.Errorf("the listener on %s: %w", in.SCIM, err))
			}
		})
	}
	if d.acme != nil {
		d.acme.Start()
	}
	return nil
}

// Apply puts a route table in force in every region. Certificates are kept for
// the hosts of all regions together: what is not named is forgotten.
func (d *scimDoors) Apply(r postern.Routes) error {
	var errs []error
	var hosts []string
	for region, door := range d.doors {
		if err := door.Apply(r); err != nil {
			errs = append(errs, fmt.Errorf("in %s: %w", region, err))
		}
		hosts = append(hosts, door.Hosts()...) // of the table before, when this one is not sound
	}
	slices.Sort(hosts)
	d.manage(hosts)
	return errors.Join(errs...)
}

// Withdraw takes the table out of force in every region.
func (d *scimDoors) Withdraw() {
	for _, door := range d.doors {
		door.Withdraw()
	}
}

// Drain returns who arrived since it was called last.
func (d *scimDoors) Drain() (all []postern.ArrivalCount) {
	for region, door := range d.doors {
		all = append(all, arrivals(region, door.Drain())...)
	}
	return all
}

// shutdown takes no more connections, and cuts those that do not end in time.
func (d *scimDoors) shutdown(ctx context.Context) {
	var all sync.WaitGroup
	for _, door := range d.doors {
		all.Go(func() { door.Shutdown(ctx) })
	}
	all.Wait()
	d.work.Wait()
	if d.acme != nil {
		d.acme.Close()
	}
}
