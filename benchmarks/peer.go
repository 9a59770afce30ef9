// The same series by Go's client, on one core: `peer PAGE` reads a page in Prometheus's text format, says its port and
// serves /metrics out of gauges with labels, as a Go program would keep them.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

func main() {
	runtime.GOMAXPROCS(1)
	page, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	var parser expfmt.TextParser
	families, err := parser.TextToMetricFamilies(page)
	if err != nil {
		panic(err)
	}
	registry := prometheus.NewRegistry()
	for name, family := range families {
		registry.MustRegister(gauges(name, family))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	_ = http.Serve(listener, nil)
}

func gauges(name string, family *dto.MetricFamily) *prometheus.GaugeVec {
	var names []string
	for _, pair := range family.Metric[0].Label {
		names = append(names, pair.GetName())
	}
	made := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: family.GetHelp()}, names)
	for _, metric := range family.Metric {
		labels := prometheus.Labels{}
		for _, pair := range metric.Label {
			labels[pair.GetName()] = pair.GetValue()
		}
		made.With(labels).Set(value(metric))
	}
	return made
}

func value(metric *dto.Metric) float64 {
	return metric.GetGauge().GetValue() + metric.GetCounter().GetValue() + metric.GetUntyped().GetValue()
}
