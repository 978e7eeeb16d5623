//go:build !linux

package main

import "errors"

func main() { panic(errors.ErrUnsupported) } // the load is made with epoll
