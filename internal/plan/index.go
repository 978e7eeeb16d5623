package plan

import "github.com/postern-net/postern"

// by groups values by a key, so that each of many need not look through all
// others: a platform has a hundred thousand tenants.
func by[K comparable, V any](all []V, key func(V) K) map[K][]V {
	out := make(map[K][]V, len(all))
	for _, v := range all {
		k := key(v)
		out[k] = append(out[k], v)
	}
	return out
}

// The keys that plans group by.

func tenantsOrganization(t postern.Tenant) string     { return t.Organization }
func accountsOrganization(a postern.Account) string   { return a.Organization }
func endpointsOrganization(e postern.Endpoint) string { return e.Organization }
func cutoversTenant(c postern.Cutover) string         { return c.Tenant }
func connectionsEndpoint(c postern.Connection) string { return c.EndpointID }
