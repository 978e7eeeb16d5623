package postern

// The reasons of an [Error] in a request for a data connection, besides those of
// a hostname's form.
const (
	ReasonMissing                Reason = "Missing"                // nothing is there
	ReasonDuplicate              Reason = "Duplicate"              // the same thing twice
	ReasonUnknownKind            Reason = "UnknownKind"            // no such kind of data connection
	ReasonUnsupportedRegion      Reason = "UnsupportedRegion"      // the platform makes no data connections there
	ReasonRegionNotSetUp         Reason = "RegionNotSetUp"         // it will, and has no network there yet
	ReasonAnotherSegment         Reason = "AnotherSegment"         // than the tenant's
	ReasonZoneName               Reason = "ZoneName"               // us-east-1a where use1-az3 must be
	ReasonNotAZone               Reason = "NotAZone"               // no Availability Zone ID
	ReasonNoCommonZone           Reason = "NoCommonZone"           // also a condition's
	ReasonNotAService            Reason = "NotAService"            // neither name nor ID of an endpoint service
	ReasonServiceOfAnotherRegion Reason = "ServiceOfAnotherRegion" // than the request's
	ReasonPlatformName           Reason = "PlatformName"           // a hostname of the platform itself
	ReasonHostnameTaken          Reason = "HostnameTaken"          // also a condition's
	ReasonNotAPort               Reason = "NotAPort"               //
	ReasonUnsupportedProtocol    Reason = "UnsupportedProtocol"    // UDP
	ReasonUnsupportedAddressType Reason = "UnsupportedAddressType" // IPv6
)

func connectionRequestReasons() []Reason {
	return []Reason{
		ReasonMissing, ReasonDuplicate, ReasonUnknownKind, ReasonUnsupportedRegion, ReasonRegionNotSetUp, ReasonAnotherSegment, ReasonZoneName, ReasonNotAZone,
		ReasonNoCommonZone, ReasonNotAService, ReasonServiceOfAnotherRegion, ReasonPlatformName, ReasonHostnameTaken, ReasonNotAPort,
		ReasonUnsupportedProtocol, ReasonUnsupportedAddressType,
	}
}

// The conditions of a [DataConnection], in the order in which they come to hold.
// Connected and Ready are those of an endpoint.
const (
	HostnameProven    ConditionType = "HostnameProven"    // the organization showed that it holds the hostname
	ServiceAuthorized ConditionType = "ServiceAuthorized" // the service is of a proven account and admits the platform's principal
	ServiceSuitable   ConditionType = "ServiceSuitable"   // an endpoint can be made to it, and its owner decides on each
	Verified          ConditionType = "Verified"          // what answers through the endpoint is the cluster, with a good certificate
)

// The reasons of these conditions, besides those that they share with others
// and those of a [Finding].
const (
	ReasonChallengeFound    Reason = "ChallengeFound"    // HostnameProven=True
	ReasonChallengeNotFound Reason = "ChallengeNotFound" // HostnameProven=False

	ReasonAuthorized    Reason = "Authorized"    // ServiceAuthorized=True
	ReasonNotAuthorized Reason = "NotAuthorized" // ServiceAuthorized=False

	ReasonSuitable              Reason = "Suitable"              // ServiceSuitable=True
	ReasonAcceptanceNotRequired Reason = "AcceptanceNotRequired" // ServiceSuitable=False
	ReasonUnsupportedService    Reason = "UnsupportedService"    // ServiceSuitable=False; no interface endpoints, or not over IPv4

	ReasonCreating     Reason = "Creating"     // Connected=False; Postern is about to make the endpoint
	ReasonCreateFailed Reason = "CreateFailed" // Connected=False; AWS refused

	ReasonVerified    Reason = "Verified"    // Verified=True
	ReasonNotVerified Reason = "NotVerified" // Verified=Unknown
)

func connectionReasons() []Reason {
	return []Reason{
		ReasonChallengeFound, ReasonChallengeNotFound, ReasonHostnameTaken, ReasonAuthorized, ReasonNotAuthorized,
		ReasonSuitable, ReasonAcceptanceNotRequired, ReasonUnsupportedService, ReasonNoCommonZone,
		ReasonCreating, ReasonCreateFailed, ReasonVerified, ReasonNotVerified,
	}
}
