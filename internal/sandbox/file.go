package sandbox

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
)

// File is sandbox.json: where everything of a running sandbox is. Other
// people's scripts rely on its keys; later versions only add some.
type File struct {
	API       FileAPI               `json:"api"`
	AWS       FileAWS               `json:"aws"`
	CAFile    string                `json:"ca_file"` // PEM; issued the apps' certificates
	HTTPSPort uint16                `json:"https_port"`
	DNSPort   uint16                `json:"dns_port"`
	Resolvers map[string]netip.Addr `json:"resolvers"` // "public", and by network
	Sources   map[string]netip.Addr `json:"sources"`   // "internet", and by network: where clients connect from
	Ingress   FileIngress           `json:"ingress"`
	Nodes     map[string]FileNode   `json:"nodes"` // the ingress nodes, by ID
	// Hosts has the standard hostname by tenant; under "scim" the names of the
	// SCIM-only ingresses by tenant, whether they are on or off; and under each
	// app that organizations share, its hosts.
	Hosts     map[string]any       `json:"hosts"`
	AccessLog string               `json:"access_log"`
	Egress    FileEgress           `json:"egress"` // the way out
	Trino     map[string]FileTrino `json:"trino"`  // the customers' clusters, by organization
}

// FileEgress is how the vendor's workloads reach the customers' clusters.
type FileEgress struct {
	Proxy       string                    `json:"proxy"` // URL of the CONNECT proxy
	Region      string                    `json:"region"`
	Transparent map[string]netip.AddrPort `json:"transparent"` // where a tenant's workloads connect straight, by tenant
	DNS         map[string]netip.AddrPort `json:"dns"`         // answers that address for the tenant's connections
	Sources     map[string]netip.Addr     `json:"sources"`     // where a tenant's workloads run
	Tokens      map[string]string         `json:"tokens"`      // file with a workload's token, by tenant
	AdminURL    string                    `json:"admin_url"`   // health and metrics
}

// FileTrino is a customer's cluster behind its endpoint service.
type FileTrino struct {
	Tenant            string   `json:"tenant"` // whose workloads are to reach it
	Hostname          string   `json:"hostname"`
	Port              uint16   `json:"port"`
	ServiceName       string   `json:"vpc_endpoint_service_name"`
	ServiceID         string   `json:"vpc_endpoint_service_id"`
	AvailabilityZones []string `json:"availability_zone_ids"`
	ControlURL        string   `json:"control_url"` // POST certificate/KIND replaces its certificate
}

// FileAPI is how to reach Postern's API.
type FileAPI struct {
	URL            string            `json:"url"`
	AdminURL       string            `json:"admin_url"` // health and metrics
	AdminTokenFile string            `json:"admin_token_file"`
	Tokens         map[string]string `json:"tokens"` // token file of an organization's admin, by organization
}

// FileAWS is how to reach the stand-in.
type FileAWS struct {
	EndpointURL string                 `json:"endpoint_url"`
	Accounts    map[string]FileAccount `json:"accounts"` // "platform", and by organization
}

// FileAccount is an AWS account of the stand-in. Its secret opens nothing
// outside of this sandbox.
type FileAccount struct {
	ID              string `json:"id"`
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey string `json:"secret_access_key"`
}

// FileNode is an ingress node.
type FileNode struct {
	Private   map[string]netip.Addr `json:"private"`    // behind the load balancers, by region
	Public    map[string]netip.Addr `json:"public"`     // by region
	AdminURL  string                `json:"admin_url"`  // health and metrics
	TokenFile string                `json:"token_file"` // what it shows the control plane
}

// FileIngress holds the doors' addresses, by region; where there are several
// nodes, the first one's.
type FileIngress struct {
	Private map[string]netip.Addr `json:"private"` // behind the load balancers
	Public  map[string]netip.Addr `json:"public"`
	SCIM    map[string]netip.Addr `json:"scim"` // refuses everybody while no tenant of the region has a SCIM ingress
}

// Name of the file in the state directory.
const fileName = "sandbox.json"

// write replaces the file at once, readable by its owner only.
func (f File) write(dir string) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, fileName), append(b, '\n'))
}

// writeFile writes a file whole or not at all.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // gone already once it was renamed
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
