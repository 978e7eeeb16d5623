// Package aws is the cloud adapter: the only package that speaks to AWS.
//
// It observes endpoint connections and principals of the platform's endpoint
// services, changes them idempotently, and asks STS who signed the proof of an
// account. It decides nothing and keeps nothing: internal/plan decides, the
// store keeps. AWS's errors are translated to the domain's once, here; the
// original stays in the chain, for the log.
//
// docs/iam.md lists the permissions that each call needs.
package aws
