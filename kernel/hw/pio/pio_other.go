//go:build !amd64

package pio

var instructions *accessor
