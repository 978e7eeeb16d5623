package postern

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Offer is one region of the catalogue, as a customer should consider it.
type Offer struct {
	Segment Segment
	Region  Region
	Home    bool // the tenant's own region: the first choice (the seeds)
}

// Catalogue lists the regions to create an endpoint in: with a home region,
// that region first and then the rest of its segment, for no other segment
// reaches the tenant; without, every region. An unsupported home is an error
// that names the nearest supported region.
func (p *Platform) Catalogue(home string) ([]Offer, error) {
	var offers []Offer
	if home == "" {
		for _, s := range p.Segments {
			for _, r := range s.Regions {
				offers = append(offers, Offer{Segment: s, Region: r})
			}
		}
		return offers, nil
	}
	region, segment, ok := p.Region(home)
	if !ok {
		return nil, p.unsupportedRegion("region", home)
	}
	offers = append(offers, Offer{Segment: segment, Region: region, Home: true})
	for _, r := range segment.Regions {
		if r.ID != home {
			offers = append(offers, Offer{Segment: segment, Region: r})
		}
	}
	return offers, nil
}

func (p *Platform) unsupportedRegion(field, region string) *Error {
	if e := CheckRegionName(field, region); e != nil {
		return e
	}
	fix := "the supported regions are " + strings.Join(p.RegionIDs(), ", ")
	if near := p.Nearest(region); near != "" {
		fix = fmt.Sprintf("the nearest supported region is %s; all of them: %s", near, strings.Join(p.RegionIDs(), ", "))
	}
	return Invalid(field, region, "not a region of this platform", fix)
}

// Nearest is the platform's region at the least great-circle distance from an
// AWS region, or "" when the table below does not know that region.
func (p *Platform) Nearest(region string) string { return nearest(region, p.RegionIDs()) }

// nearest is the one of some regions at the least distance from a region.
func nearest(region string, ids []string) string {
	from, ok := regionSites[region]
	if !ok {
		return ""
	}
	best, found := math.Inf(1), ""
	for _, id := range slices.SortedFunc(slices.Values(ids), cmp.Compare[string]) {
		if to, ok := regionSites[id]; ok {
			if d := distance(from, to); d < best {
				best, found = d, id
			}
		}
	}
	return found
}

// site is a latitude and a longitude in degrees, to about a hundred kilometres:
// enough to rank regions.
type site struct{ lat, lon float64 }

func distance(a, b site) float64 {
	const rad = math.Pi / 180
	s := math.Sin(a.lat*rad)*math.Sin(b.lat*rad) + math.Cos(a.lat*rad)*math.Cos(b.lat*rad)*math.Cos((a.lon-b.lon)*rad)
	return math.Acos(max(-1, min(1, s)))
}

// regionSites holds the metropolitan area that AWS names for each region.
var regionSites = map[string]site{
	"us-east-1": {38.9, -77.4}, "us-east-2": {40.0, -83.0}, "us-west-1": {37.4, -121.9}, "us-west-2": {45.8, -119.7},
	"ca-central-1": {45.5, -73.6}, "ca-west-1": {51.0, -114.1}, "mx-central-1": {20.6, -100.4}, "sa-east-1": {-23.5, -46.6},
	"us-gov-east-1": {40.0, -83.0}, "us-gov-west-1": {45.8, -119.7},
	"eu-west-1": {53.3, -6.3}, "eu-west-2": {51.5, -0.1}, "eu-west-3": {48.9, 2.4}, "eu-central-1": {50.1, 8.7}, "eu-central-2": {47.4, 8.5},
	"eu-north-1": {59.3, 18.1}, "eu-south-1": {45.5, 9.2}, "eu-south-2": {41.6, -0.9},
	"af-south-1": {-33.9, 18.4}, "me-south-1": {26.1, 50.6}, "me-central-1": {24.5, 54.4}, "il-central-1": {32.1, 34.8},
	"ap-south-1": {19.1, 72.9}, "ap-south-2": {17.4, 78.5}, "ap-east-1": {22.3, 114.2}, "ap-east-2": {25.0, 121.5},
	"ap-northeast-1": {35.7, 139.7}, "ap-northeast-2": {37.6, 127.0}, "ap-northeast-3": {34.7, 135.5},
	"ap-southeast-1": {1.4, 103.8}, "ap-southeast-2": {-33.9, 151.2}, "ap-southeast-3": {-6.2, 106.8}, "ap-southeast-4": {-37.8, 145.0},
	"ap-southeast-5": {3.1, 101.7}, "ap-southeast-6": {-36.8, 174.8}, "ap-southeast-7": {13.8, 100.5},
	"cn-north-1": {39.9, 116.4}, "cn-northwest-1": {37.5, 105.2},
}
