// Package localaws is a stand-in for AWS that moves real bytes. It speaks the
// EC2 Query, STS and Route 53 protocols well enough for the AWS SDKs and the AWS
// CLI, verifies every signature, and keeps AWS's awkward truths: lower-camel states,
// asynchronous acceptance, partial failure as HTTP 200, "does not exist" for a
// principal that is not allowed, DNS entries that are empty at first. An
// endpoint that is available is a set of real listeners on addresses of its
// VPC (package eni), and every VPC has a resolver (package vpcdns), which sees
// the private hosted zones that its VPC is associated with (package hostedzone).
//
// What exists from the start is a [World]; what calls change is one JSON file.
// It knows only the actions that Postern or a documented journey sends, and
// IAM policies not at all: an access key may do everything in its account.
//
// Source of shapes, states and errors: the Amazon EC2, AWS STS and Amazon Route
// 53 API references and the AWS PrivateLink and Route 53 guides.
package localaws
