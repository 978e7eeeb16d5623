package localaws

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
)

// zoneNames maps an account's zone names ("us-east-1a") to zone IDs. Which
// letter means which zone differs per account, as at AWS, and is always the
// same for the same account and region.
func (w *World) zoneNames(account, region string) []zone {
	r, ok := w.region(region)
	if !ok {
		return nil
	}
	sum := sha256.Sum256([]byte("zones " + account + " " + region))
	rng := rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16]))) //nolint:gosec // a permutation, not a secret
	shuffled := []byte("abcdefghijklmnopqrstuvwxyz"[:len(r.ZoneIDs)])
	rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	letters := string(shuffled)
	acc, _ := w.account(account)
	var zones []zone
	for i, id := range r.ZoneIDs {
		if !slices.Contains(acc.HiddenZones, id) {
			zones = append(zones, zone{ID: id, Name: region + letters[i:i+1]})
		}
	}
	slices.SortFunc(zones, func(a, b zone) int { return strings.Compare(a.Name, b.Name) })
	return zones
}

// zone is an Availability Zone as one account sees it.
type zone struct{ ID, Name string }

// zoneName is the account's name of a zone, or "" when the account lacks it.
func (w *World) zoneName(account, region, id string) string {
	for _, z := range w.zoneNames(account, region) {
		if z.ID == id {
			return z.Name
		}
	}
	return ""
}

// partition is the ARN partition of a region.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// dnsSuffix is the domain of a region's public names.
func dnsSuffix(region string) string {
	if partition(region) == "aws-cn" {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

// serviceName is the name of an endpoint service.
func serviceName(region, id string) string {
	name := "com.amazonaws.vpce." + region + "." + id
	if partition(region) == "aws-cn" {
		return "cn." + name
	}
	return name
}

// serviceDomain is the domain below which the endpoints of a service have
// their names.
func serviceDomain(region, id string) string {
	return id + "." + region + ".vpce." + dnsSuffix(region)
}

// hostedZoneID is the ID of the hosted zone that AWS's alias records to VPC
// endpoints of a region name. AWS publishes the one of us-east-1 in its CLI
// reference; a client must read it from the endpoint, so the others only have
// the right form.
func hostedZoneID(region string) string {
	if region == "us-east-1" {
		return "Z7HUB22UULQXV"
	}
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	sum := sha256.Sum256([]byte("hosted zone " + region))
	id := []byte("Z")
	for _, b := range sum[:12] {
		id = append(id, digits[int(b)%len(digits)])
	}
	return string(id)
}

// DefaultRegions are the regions of AWS's commercial partition, with the zone
// IDs that AWS gives there, so that any vendor's platform finds its own.
func DefaultRegions() []Region {
	zones := func(prefix string, numbers ...string) []string {
		ids := make([]string, len(numbers))
		for i, n := range numbers {
			ids[i] = prefix + "-az" + n
		}
		return ids
	}
	return []Region{
		{"us-east-1", zones("use1", "1", "2", "3", "4", "5", "6")},
		{"us-east-2", zones("use2", "1", "2", "3")},
		{"us-west-1", zones("usw1", "1", "3")},
		{"us-west-2", zones("usw2", "1", "2", "3", "4")},
		{"ca-central-1", zones("cac1", "1", "2", "4")},
		{"ca-west-1", zones("caw1", "1", "2", "3")},
		{"mx-central-1", zones("mxc1", "1", "2", "3")},
		{"sa-east-1", zones("sae1", "1", "2", "3")},
		{"eu-central-1", zones("euc1", "1", "2", "3")},
		{"eu-central-2", zones("euc2", "1", "2", "3")},
		{"eu-west-1", zones("euw1", "1", "2", "3")},
		{"eu-west-2", zones("euw2", "1", "2", "3")},
		{"eu-west-3", zones("euw3", "1", "2", "3")},
		{"eu-north-1", zones("eun1", "1", "2", "3")},
		{"eu-south-1", zones("eus1", "1", "2", "3")},
		{"eu-south-2", zones("eus2", "1", "2", "3")},
		{"il-central-1", zones("ilc1", "1", "2", "3")},
		{"me-central-1", zones("mec1", "1", "2", "3")},
		{"me-south-1", zones("mes1", "1", "2", "3")},
		{"af-south-1", zones("afs1", "1", "2", "3")},
		{"ap-east-1", zones("ape1", "1", "2", "3")},
		{"ap-south-1", zones("aps1", "1", "2", "3")},
		{"ap-south-2", zones("aps2", "1", "2", "3")},
		{"ap-northeast-1", zones("apne1", "1", "2", "4")},
		{"ap-northeast-2", zones("apne2", "1", "2", "3", "4")},
		{"ap-northeast-3", zones("apne3", "1", "2", "3")},
		{"ap-southeast-1", zones("apse1", "1", "2", "3")},
		{"ap-southeast-2", zones("apse2", "1", "2", "3")},
		{"ap-southeast-3", zones("apse3", "1", "2", "3")},
		{"ap-southeast-4", zones("apse4", "1", "2", "3")},
	}
}
