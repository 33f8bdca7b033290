package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// sample is what was measured, in nanoseconds, bytes or whatever its row of the table says.
type sample []float64

func (s *sample) add(d time.Duration) { *s = append(*s, float64(d)) }

// quantile returns the value below which the given part of the sample lies.
func (s sample) quantile(part float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	at := part * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

func (s sample) median() float64 { return s.quantile(0.5) }

// unit prints a value of a sample.
type unit func(float64) string

func milliseconds(v float64) string { return significant(v/1e6) + " ms" }
func mebibytes(v float64) string    { return significant(v/(1<<20)) + " MiB" }
func gibibytes(v float64) string    { return significant(v/(1<<30)) + " GiB" }

// significant prints three digits or so, whatever the size.
func significant(v float64) string {
	switch {
	case v >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
