// Package sandbox runs the whole world on one machine: the stand-in for AWS
// with the vendor's and the customers' accounts, the platform's apps, and
// Postern itself, wired as in production. It moves real bytes over loopback
// addresses and needs no privilege.
//
// Check plays the story of the seeds against it, as its users would: by the
// API, by AWS's API, and by connections.
package sandbox
