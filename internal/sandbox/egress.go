package sandbox

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/certcheck"
	"github.com/postern-net/postern/internal/serve"
)

// egressNode is the node by which workloads get out.
const egressNode = "egress-a"

// openEgress runs the egress node. It runs in this process always: only here
// can addresses of this machine be those of endpoints.
func (s *Sandbox) openEgress(ctx context.Context) error {
	if err := s.layProxyCertificate(); err != nil {
		return fmt.Errorf("the proxy's certificate: %w", err)
	}
	n, err := s.layNode(ctx, egressNode, s.egressRole)
	if err != nil {
		return fmt.Errorf("%s: %w", egressNode, err)
	}
	n.run = s.serveHere
	s.egress = n
	s.stops = append(s.stops, n.halt)
	if err := n.start(ctx); err != nil {
		return err
	}
	return s.awaitNode(ctx, n)
}

func (s *Sandbox) egressRole(c *serve.Config) {
	o := s.places.outbound
	c.Roles = []string{serve.RoleEgress}
	e := serve.Egress{
		Region: o.region, Source: o.proxy, Connect: netip.AddrPortFrom(o.proxy, s.httpsPort),
		CertificateFile: s.path("proxy.pem"), KeyFile: s.path("proxy.key"),
	}
	for _, customer := range customers(s.platform) {
		for _, t := range customer.tenants {
			if at, ok := o.bound[t.Name]; ok {
				e.Tenants = append(e.Tenants, serve.EgressTenant{
					Tenant: t.Name, Transparent: []netip.AddrPort{netip.AddrPortFrom(at, s.httpsPort)}, DNS: netip.AddrPortFrom(at, s.dnsPort),
				})
			}
		}
	}
	c.Egress = []serve.Egress{e}
}

// proxyName is what workloads call the proxy, and its certificate is for.
func (s *Sandbox) proxyName() string { return "egress." + s.platform.Domains.PrivateLink }

func (s *Sandbox) layProxyCertificate() error {
	pair, err := s.authority.issueFor(s.places.outbound.proxy, s.proxyName())
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return err
	}
	var chain []byte
	for _, der := range pair.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return errors.Join(
		writeFile(s.path("proxy.pem"), chain),
		writeFile(s.path("proxy.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
	)
}

// lookAtClusters lets the egress node take the sandbox's authority for a public
// one, and its addresses for endpoints'.
func (s *Sandbox) lookAtClusters() certcheck.Config {
	return certcheck.Config{Roots: []*x509.Certificate{s.authority.cert}, Networks: []netip.Prefix{s.ground.networks}}
}

// makeWorkloadToken puts a token of a tenant's workloads into a file, unless an
// earlier start did and it is still good.
func (s *Sandbox) makeWorkloadToken(ctx context.Context, tenant string) error {
	file := s.workloadTokenFile(tenant)
	name := tenant + "-queries"
	tokens, err := s.admin.WorkloadTokens(ctx, "", tenant)
	if err != nil {
		return err
	}
	if _, err := os.Stat(file); err == nil && slices.ContainsFunc(tokens, func(t client.WorkloadToken) bool { return t.Spec.Name == name }) {
		return nil
	}
	t, err := s.admin.CreateWorkloadToken(ctx, client.WorkloadTokenSpec{Name: name, Tenant: tenant})
	if err != nil {
		return err
	}
	return writeFile(file, []byte(t.Secret+"\n"))
}

func (s *Sandbox) workloadTokenFile(tenant string) string {
	return s.path("tokens/" + tenant + ".workload.token")
}

func (s *Sandbox) fileEgress() FileEgress {
	o := s.places.outbound
	f := FileEgress{
		Proxy: fmt.Sprintf("https://%s", netip.AddrPortFrom(o.proxy, s.httpsPort)), Region: o.region, AdminURL: s.egress.adminURL,
		Transparent: map[string]netip.AddrPort{}, DNS: map[string]netip.AddrPort{}, Sources: o.workloads, Tokens: map[string]string{},
	}
	for tenant, at := range o.bound {
		f.Transparent[tenant], f.DNS[tenant] = netip.AddrPortFrom(at, s.httpsPort), netip.AddrPortFrom(at, s.dnsPort)
		f.Tokens[tenant] = s.workloadTokenFile(tenant)
	}
	return f
}

func (s *Sandbox) fileTrino() map[string]FileTrino {
	out := map[string]FileTrino{}
	for id, c := range s.places.outbound.clusters {
		out[id] = FileTrino{
			Tenant: c.tenant, Hostname: c.hostname, Port: s.httpsPort, ServiceName: c.service.ServiceName(), ServiceID: c.service.ID,
			AvailabilityZones: s.places.outbound.zones, ControlURL: s.switches[id],
		}
	}
	return out
}
