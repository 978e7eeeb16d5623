package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/client"
)

// customerTTL is the TTL of the customer's records, in seconds: short, so that
// an endpoint can be replaced within a minute.
const customerTTL = 60

func (a *app) dns() *cobra.Command {
	var endpoint string
	cmd := &cobra.Command{
		Use: "dns TENANT", Short: "Tell which DNS records a tenant needs, on both sides", Args: takes("TENANT"),
		Long: `Dns prints what the platform's public DNS says for the tenant, and whether every server of its zones
answers so already; and what your own DNS must answer in your networks: one CNAME for each endpoint, to
be created where that endpoint is used. Networks that use different endpoints need different answers.

In Route 53 the record belongs in a private hosted zone of the privatelink domain that is associated with
the VPC. With --change-batch the record is printed as "aws route53 change-resource-record-sets" takes it.
A DNS server on premises must answer the name itself, or forward it to a resolver in the VPC.`,
		Example: `  postern dns example
  postern dns example --change-batch vpce-0d363d9ea82658bec > change.json
  aws route53 change-resource-record-sets --hosted-zone-id Z… --change-batch file://change.json`,
		RunE: a.once(func(ctx context.Context, s session, args []string) error {
			d, err := s.TenantDNS(ctx, args[0])
			if err != nil {
				return err
			}
			if endpoint == "" {
				return a.print(d, func() string { return dnsText(d) })
			}
			i := slices.IndexFunc(d.Customer, func(n client.NetworkDNS) bool { return n.VPCEndpointID == endpoint })
			if i < 0 {
				return fmt.Errorf("%s is no ready endpoint that reaches tenant %s: %s", endpoint, args[0], readyEndpoints(d))
			}
			text, err := changeBatch(d.Customer[i].Record)
			if err != nil {
				return err
			}
			return write(a.Out, text)
		}),
	}
	cmd.Flags().StringVar(&endpoint, "change-batch", "", "print the record for the networks of this `VPCE` as a Route 53 change batch")
	return cmd
}

func readyEndpoints(d client.TenantDNS) string {
	if len(d.Customer) == 0 {
		return "none is; create one and claim it (postern endpoint claim)"
	}
	var ids []string
	for _, n := range d.Customer {
		ids = append(ids, n.VPCEndpointID)
	}
	return "use one of " + comma(ids)
}

func dnsText(d client.TenantDNS) string {
	var b strings.Builder
	b.WriteString("The platform's public DNS, for everybody:\n\n")
	var lines []client.DNSRecord
	lines = append(lines, d.Vendor...)
	b.WriteString(masterFile(lines))
	switch {
	case len(d.Vendor) == 0:
		b.WriteString("  nothing: the platform names no public ingress for the tenant's region\n")
	case d.Published:
		b.WriteString("\nEvery server of the zones answers so.\n")
	default:
		b.WriteString("\nNot every server of the zones answers so yet: " + clean(d.Detail) + "\n")
	}
	if len(d.Customer) == 0 {
		b.WriteString("\nYour own DNS: nothing yet. No ready endpoint reaches the tenant; create one and claim it (postern endpoint claim).\n")
		return b.String()
	}
	for _, n := range d.Customer {
		records := []client.DNSRecord{customers(n.Record)}
		for _, r := range n.Apps {
			records = append(records, customers(r))
		}
		fmt.Fprintf(&b, "\nYour own DNS, in the networks that use %s (service region %s):\n\n%s", clean(n.VPCEndpointID), clean(n.ServiceRegion), masterFile(records))
	}
	return b.String()
}

// customers is a record of the customer's with the TTL that it should have.
func customers(r client.DNSRecord) client.DNSRecord {
	if r.TTL == 0 {
		r.TTL = customerTTL
	}
	return r
}

// masterFile writes records as a zone's file has them (RFC 1035 §5), so that
// they can be copied.
func masterFile(records []client.DNSRecord) string {
	var b strings.Builder
	for _, r := range records {
		value := r.Value
		if r.Type == "CNAME" {
			value += "."
		}
		b.WriteString(clean(fmt.Sprintf("  %s. %d IN %s %s", r.Name, r.TTL, r.Type, value)) + "\n")
	}
	return b.String()
}

// changeBatch is one record as the API of Route 53 takes it. It replaces what
// is there, so that it may be applied again.
func changeBatch(r client.DNSRecord) (string, error) {
	r = customers(r)
	type value struct{ Value string }
	type recordSet struct {
		Name, Type      string
		TTL             int
		ResourceRecords []value
	}
	type change struct {
		Action            string
		ResourceRecordSet recordSet
	}
	b, err := json.MarshalIndent(struct{ Changes []change }{[]change{{
		"UPSERT", recordSet{r.Name, r.Type, r.TTL, []value{{r.Value}}},
	}}}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode the change batch: %w", err)
	}
	return string(b) + "\n", nil
}
