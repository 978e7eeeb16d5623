package serve

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/accesslog"
	"github.com/postern-net/postern/internal/platformfile"
	"github.com/postern-net/postern/internal/relay"
	"github.com/postern-net/postern/internal/strictyaml"
)

// Config is the file that `postern serve --config` reads. Relative paths are
// relative to it. Secrets are in files of their own, never here.
type Config struct {
	// Platform is a built-in platform's name or a file. There is no default,
	// so that nobody serves another's domains by accident.
	Platform string `yaml:"platform"`
	// StateDir holds the database and the tokens that are made here (control),
	// and the routes that were in force last (ingress, egress).
	StateDir string `yaml:"state_dir"`
	// Roles are what this process does: control, ingress, egress, dns, or
	// several of them.
	Roles []string `yaml:"roles"`

	API      API           `yaml:"api"`            // role control
	Node     Node          `yaml:"node,omitempty"` // roles ingress and egress
	Admin    Admin         `yaml:"admin"`
	AWS      AWS           `yaml:"aws,omitempty"`
	Approval string        `yaml:"approval,omitempty"` // "operator" (default) or "policy"
	Resync   time.Duration `yaml:"resync,omitempty"`   // default 60s
	Settle   time.Duration `yaml:"settle,omitempty"`   // default 2s
	Ingress  []Ingress     `yaml:"ingress,omitempty"`
	SCIM     SCIM          `yaml:"scim,omitempty"` // for the doors that have scim
	Egress   []Egress      `yaml:"egress,omitempty"`
	DNS      DNS           `yaml:"dns,omitempty"`
	Cutover  Cutover       `yaml:"cutover,omitempty"` // role control
	Limits   Limits        `yaml:"limits,omitempty"`
	// Engine moves the connections: "epoll", "goroutine", or what fits the
	// system, which is "auto" and the default.
	Engine    string `yaml:"engine,omitempty"`
	AccessLog string `yaml:"access_log,omitempty"` // a file; default: standard output
	// AccessLogRate is the records per second that each region's access log
	// takes, of refused and of admitted connections each; default 1000.
	AccessLogRate int `yaml:"access_log_rate,omitempty"`
	Log           Log `yaml:"log,omitempty"`
	// ProbeBackends is how often a node asks its backends whether they are
	// isolated; default 1m.
	ProbeBackends time.Duration `yaml:"probe_backends,omitempty"`
	// ShutdownTimeout bounds the wait for open connections; default 30s.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout,omitempty"`
}

// API is where the HTTP API listens.
type API struct {
	Listen          netip.AddrPort `yaml:"listen"`
	CertificateFile string         `yaml:"certificate_file,omitempty"` // PEM; without, only a loopback address is allowed
	KeyFile         string         `yaml:"key_file,omitempty"`
	// AdminTokenFile is read, or written with a new token where there is
	// none; default: admin.token in state_dir.
	AdminTokenFile string `yaml:"admin_token_file,omitempty"`
}

// DNS is the platform's public zones: who serves them, and who is asked what
// they say.
type DNS struct {
	// Listen are the addresses of this process's nameserver (role dns).
	Listen []netip.AddrPort `yaml:"listen,omitempty"`
	// Servers are the zones' authoritative servers, which a cutover asks
	// before it goes on; default: listen.
	Servers []netip.AddrPort `yaml:"servers,omitempty"`
	// Resolvers are asked, over TCP, for the proofs of data connections'
	// hostnames; default: the machine's.
	Resolvers []netip.AddrPort `yaml:"resolvers,omitempty"`
	// TTL of tenants' records, in whole seconds; default 60s.
	TTL time.Duration `yaml:"ttl,omitempty"`
}

// Cutover sets how careful cutovers are.
type Cutover struct {
	Observe     time.Duration `yaml:"observe,omitempty"`      // a rehearsal lasts at least; default 24h
	Window      time.Duration `yaml:"window,omitempty"`       // it goes back when nobody came privately in this time; default 1h
	Clients     int           `yaml:"clients,omitempty"`      // though so many came publicly; default 3
	Drain       time.Duration `yaml:"drain,omitempty"`        // open public connections live on after enforcing; default 5m
	NodeSilence time.Duration `yaml:"node_silence,omitempty"` // a node that did not report for so long is waited for; default 30s
}

// Node is how a process with the role ingress or egress presents itself to the control
// plane, whose routes it obeys.
type Node struct {
	// ID is the name of the node's token: a label. With the role control in
	// the same process it is "local" by default.
	ID string `yaml:"id,omitempty"`
	// ControlURL is the control plane's API. With the role control in the same
	// process the default is its own.
	ControlURL string `yaml:"control_url,omitempty"`
	// TokenFile holds a token of the role node. Where the process is its own
	// control plane it is made; default: node.token in state_dir.
	TokenFile string `yaml:"token_file,omitempty"`
	CAFile    string `yaml:"ca_file,omitempty"` // PEM; default: the system's roots
}

// Admin is where health and metrics are served; never on a public address.
type Admin struct {
	Listen netip.AddrPort `yaml:"listen"`
}

// AWS overrides how AWS is reached.
type AWS struct {
	EndpointURL         string `yaml:"endpoint_url,omitempty"` // one server for every service: the stand-in
	AccessKeyID         string `yaml:"access_key_id,omitempty"`
	SecretAccessKeyFile string `yaml:"secret_access_key_file,omitempty"`
	CAFile              string `yaml:"ca_file,omitempty"`
}

// Ingress is one region's door.
type Ingress struct {
	Region string `yaml:"region"`
	// Private takes the load balancer's connections, with a PROXY header.
	Private netip.AddrPort `yaml:"private"`
	// Public takes connections from the internet; left out: none.
	Public netip.AddrPort `yaml:"public"`
	// SCIM takes connections from the internet for the SCIM-only ingress; left
	// out: none.
	SCIM netip.AddrPort `yaml:"scim"`
}

// Limits bound what connections may take; zero values are the engine's.
type Limits struct {
	HelloTimeout   time.Duration `yaml:"hello_timeout,omitempty"`
	IdleTimeout    time.Duration `yaml:"idle_timeout,omitempty"`
	DialTimeout    time.Duration `yaml:"dial_timeout,omitempty"`
	MaxConnections int           `yaml:"max_connections,omitempty"`
}

// Log is how the process's own log is written, to standard error.
type Log struct {
	Format string `yaml:"format,omitempty"` // "json" (default) or "text"
	Level  string `yaml:"level,omitempty"`  // "debug", "info" (default), "warn", "error"
}

// The roles of a process.
const (
	RoleControl = "control"
	RoleIngress = "ingress"
	RoleEgress  = "egress"
	RoleDNS     = "dns"
)

// LoadConfig reads, completes and validates a config file and the platform it
// names. Every problem of the config is in a [*strictyaml.Error], with its line.
func LoadConfig(path string) (Config, *postern.Platform, error) {
	b, err := strictyaml.Read(path)
	if err != nil {
		return Config{}, nil, &postern.Error{Code: postern.CodeInvalid, Field: "--config", Value: path, Message: "cannot be read: " + reason(err), Fix: "name a file that this user may read"}
	}
	var c Config
	doc, err := strictyaml.Decode(path, b, &c, strictyaml.Options{Kind: "config file", Start: "docs/serve.md describes its keys"})
	if err != nil {
		return c, nil, err
	}
	c.complete(filepath.Dir(path))
	if c.Platform == "" {
		return c, nil, doc.Locate(postern.Invalid("platform", "", "missing", "name a platform file, or the built-in "+strings.Join(platformfile.BuiltinNames(), ", ")))
	}
	p, err := platformfile.Load(c.Platform)
	if err != nil {
		var absent *postern.Error
		if errors.As(err, &absent) && absent.Code == postern.CodeNotFound {
			err = postern.Invalid("platform", c.Platform, absent.Message, absent.Fix)
		}
		return c, nil, doc.Locate(err)
	}
	return c, p, doc.Locate(c.validate(p))
}

func reason(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// complete fills defaults in and makes paths absolute.
func (c *Config) complete(dir string) {
	if !slices.Contains(platformfile.BuiltinNames(), c.Platform) {
		inDir(dir, &c.Platform)
	}
	for _, p := range []*string{&c.StateDir, &c.API.CertificateFile, &c.API.KeyFile, &c.API.AdminTokenFile, &c.AWS.SecretAccessKeyFile, &c.AWS.CAFile, &c.AccessLog, &c.Node.TokenFile, &c.Node.CAFile, &c.SCIM.CertificateFile, &c.SCIM.KeyFile, &c.SCIM.BackendCAFile, &c.SCIM.ACME.CAFile, &c.SCIM.ACME.Storage} {
		inDir(dir, p)
	}
	for i := range c.Egress {
		inDir(dir, &c.Egress[i].CertificateFile)
		inDir(dir, &c.Egress[i].KeyFile)
	}
	if c.has(RoleControl) && c.StateDir != "" {
		setDefault(&c.API.AdminTokenFile, filepath.Join(c.StateDir, "admin.token"))
	}
	if c.ownControl() {
		setDefault(&c.Node.ID, "local")
		if c.StateDir != "" {
			setDefault(&c.Node.TokenFile, filepath.Join(c.StateDir, "node.token"))
		}
	}
	if c.SCIM.ACME.DirectoryURL != "" && c.StateDir != "" {
		setDefault(&c.SCIM.ACME.Storage, filepath.Join(c.StateDir, "acme"))
	}
	setDefault(&c.Approval, "operator")
	setDefault(&c.Resync, time.Minute)
	setDefault(&c.Settle, 2*time.Second)
	setDefault(&c.ShutdownTimeout, 30*time.Second)
	setDefault(&c.ProbeBackends, time.Minute)
	setDefault(&c.DNS.TTL, time.Minute)
	setDefault(&c.Cutover.Observe, 24*time.Hour)
	setDefault(&c.Cutover.Window, time.Hour)
	setDefault(&c.Cutover.Clients, 3)
	setDefault(&c.Cutover.Drain, 5*time.Minute)
	setDefault(&c.Cutover.NodeSilence, 30*time.Second)
	if len(c.DNS.Servers) == 0 {
		c.DNS.Servers = c.DNS.Listen
	}
	setDefault(&c.AccessLogRate, accesslog.DefaultRate)
	setDefault(&c.Engine, string(relay.KindAuto))
	setDefault(&c.Log.Format, "json")
	setDefault(&c.Log.Level, "info")
}

func inDir(dir string, p *string) {
	if *p != "" && !filepath.IsAbs(*p) {
		*p = filepath.Join(dir, *p)
	}
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (c *Config) validate(p *postern.Platform) error {
	var es postern.Errors
	if c.StateDir == "" {
		es.Add(postern.Invalid("state_dir", "", "missing", "name a directory that only this process writes to"))
	}
	for _, r := range c.Roles {
		if r != RoleControl && r != RoleIngress && r != RoleEgress && r != RoleDNS {
			es.Add(postern.Invalid("roles", r, "no such role", "use control, ingress, egress, dns, or several of them"))
		}
	}
	if len(c.Roles) == 0 {
		es.Add(postern.Invalid("roles", "", "missing", "use control, ingress, or both"))
	}
	if c.Approval != "operator" && c.Approval != "policy" {
		es.Add(postern.Invalid("approval", c.Approval, "unknown", `use "operator" or "policy"`))
	}
	if c.Log.Format != "json" && c.Log.Format != "text" {
		es.Add(postern.Invalid("log.format", c.Log.Format, "unknown", `use "json" or "text"`))
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		es.Add(postern.Invalid("log.level", c.Log.Level, "unknown", `use "debug", "info", "warn" or "error"`))
	}
	if c.AccessLogRate < 0 {
		es.Add(postern.Invalid("access_log_rate", strconv.Itoa(c.AccessLogRate), "negative", "give the records per second that the access log may take"))
	}
	if err := relay.CheckKind(relay.Kind(c.Engine)); err != nil {
		es.Add(postern.Invalid("engine", c.Engine, err.Error(), `use "auto", "epoll" on Linux, or "goroutine"`))
	}
	for field, d := range map[string]time.Duration{"resync": c.Resync, "settle": c.Settle, "shutdown_timeout": c.ShutdownTimeout, "probe_backends": c.ProbeBackends} {
		if d < 0 {
			es.Add(postern.Invalid(field, d.String(), "negative", "give a duration such as 30s"))
		}
	}
	c.validateListeners(&es)
	c.validateNode(&es)
	c.validateDNS(&es)
	c.validateIngress(&es, p)
	c.validateEgress(&es, p)
	c.validateSCIM(&es, p)
	return es.Err()
}

func (c *Config) has(role string) bool { return slices.Contains(c.Roles, role) }

// ownControl tells whether the node of this process is linked to the control
// plane of this process.
func (c *Config) ownControl() bool {
	return c.has(RoleControl) && c.isNode() && c.Node.ControlURL == ""
}

// isNode tells whether the process is a node of the data plane.
func (c *Config) isNode() bool { return c.has(RoleIngress) || c.has(RoleEgress) }

func (c *Config) validateDNS(es *postern.Errors) {
	if c.has(RoleDNS) != (len(c.DNS.Listen) > 0) {
		es.Add(postern.Invalid("dns.listen", "", "goes with the role dns", "set both or neither"))
	}
	if c.has(RoleDNS) && !c.has(RoleControl) {
		es.Add(postern.Invalid("roles", RoleDNS, "is without control", "the nameserver gets its zones from the control loop of its own process; add control"))
	}
	if c.DNS.TTL < time.Second || c.DNS.TTL%time.Second != 0 {
		es.Add(postern.Invalid("dns.ttl", c.DNS.TTL.String(), "not whole seconds", "give a duration such as 60s"))
	}
	for _, d := range []struct {
		field string
		v     time.Duration
	}{
		{"cutover.observe", c.Cutover.Observe},
		{"cutover.window", c.Cutover.Window},
		{"cutover.drain", c.Cutover.Drain},
		{"cutover.node_silence", c.Cutover.NodeSilence},
	} {
		if d.v < 0 {
			es.Add(postern.Invalid(d.field, d.v.String(), "negative", "give a duration such as 30s"))
		}
	}
	if c.Cutover.Clients < 1 {
		es.Add(postern.Invalid("cutover.clients", strconv.Itoa(c.Cutover.Clients), "not a count of clients", "give 1 or more"))
	}
}

func (c *Config) validateNode(es *postern.Errors) {
	n := c.Node
	if !c.isNode() {
		if n != (Node{}) {
			es.Add(postern.Invalid("node", "", "goes with the roles ingress and egress", "leave it out, or add one"))
		}
		return
	}
	es.Add(postern.CheckLabel("node.id", n.ID))
	if c.ownControl() {
		if n.CAFile != "" {
			es.Add(postern.Invalid("node.ca_file", n.CAFile, "goes with control_url", "leave it out: this process is its own control plane"))
		}
		return
	}
	if n.TokenFile == "" {
		es.Add(postern.Invalid("node.token_file", "", "missing", "name a file with the secret of a token of role node whose name is node.id (postern token create ID --role node --secret-file FILE)"))
	}
	if _, err := client.New(n.ControlURL, client.Options{}); err != nil {
		es.Add(postern.Invalid("node.control_url", n.ControlURL, "not an https URL, nor an http one of a loopback address", `give the control plane's API as "https://postern.example.com:8443"`))
	}
}

func (c *Config) validateListeners(es *postern.Errors) {
	tls := c.API.CertificateFile != "" || c.API.KeyFile != ""
	switch {
	case !c.has(RoleControl) && (c.API != (API{}) || c.AWS != (AWS{})):
		field := "api"
		if c.API == (API{}) {
			field = "aws"
		}
		es.Add(postern.Invalid(field, "", "goes with the role control", "leave it out, or add the role"))
	case !c.has(RoleControl):
	case !c.API.Listen.IsValid():
		es.Add(postern.Invalid("api.listen", "", "missing", `give an address and port such as "127.0.0.1:8080"`))
	case tls && (c.API.CertificateFile == "" || c.API.KeyFile == ""):
		es.Add(postern.Invalid("api.certificate_file", c.API.CertificateFile, "half of a pair", "set both certificate_file and key_file"))
	case !tls && !c.API.Listen.Addr().IsLoopback():
		es.Add(postern.Invalid("api.listen", c.API.Listen.String(), "would take tokens in clear text from a network", "set certificate_file and key_file, or listen on a loopback address behind something that speaks TLS"))
	}
	if a := c.Admin.Listen; a.IsValid() && !a.Addr().IsLoopback() && !a.Addr().IsPrivate() {
		es.Add(postern.Invalid("admin.listen", a.String(), "not a loopback or private address", "metrics and health are for the vendor's own network"))
	}
	if (c.AWS.AccessKeyID == "") != (c.AWS.SecretAccessKeyFile == "") {
		es.Add(postern.Invalid("aws.access_key_id", c.AWS.AccessKeyID, "half of a pair", "set both access_key_id and secret_access_key_file, or neither to use the SDK's default chain"))
	}
}

func (c *Config) validateIngress(es *postern.Errors, p *postern.Platform) {
	if c.has(RoleIngress) != (len(c.Ingress) > 0) {
		es.Add(postern.Invalid("ingress", "", "goes with the role ingress", "list the regions' doors where roles has ingress, and only there"))
	}
	app, ok := p.TenantApp()
	if !ok && len(c.Ingress) > 0 {
		es.Add(postern.Invalid("platform", c.Platform, "has no app with a host per tenant", "add one to apps"))
		return
	}
	seen := map[string]bool{}
	for i, in := range c.Ingress {
		at := fmt.Sprintf("ingress[%d]", i)
		r, _, ok := p.Region(in.Region)
		switch {
		case !ok:
			es.Add(postern.Invalid(at+".region", in.Region, "not a region of the platform", "use one of "+strings.Join(p.RegionIDs(), ", ")))
			continue
		case seen[in.Region]:
			es.Add(postern.Invalid(at+".region", in.Region, "named twice", "give each region one entry"))
		case !in.Private.IsValid():
			es.Add(postern.Invalid(at+".private", "", "missing", "give the address and port that the load balancer forwards to"))
		case len(r.LoadBalancerSources) == 0:
			es.Add(postern.Invalid(at+".region", in.Region, "the platform lists no load_balancer_sources for this region, so that every connection would be refused", "add the load balancer's subnets to the region in the platform file"))
		}
		seen[in.Region] = true
	}
	if len(c.Ingress) == 0 {
		return
	}
	for _, s := range p.Segments {
		for _, r := range s.Regions {
			if len(r.Backends[app.ID]) == 0 {
				es.Add(postern.Invalid("platform", c.Platform, "region "+r.ID+" has no backends for app "+app.ID, "add them to the region in the platform file"))
			}
		}
	}
}
