package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// These are the parts of Kubernetes' objects that the example uses, and no others: a field that is misspelt or stands in the wrong
// place is an error.
type (
	kubeObject struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   kubeMetadata
		Spec       yaml.Node
	}
	kubeMetadata struct {
		Name   string
		Labels map[string]string
	}
	kubeService struct {
		ClusterIP string `yaml:"clusterIP"`
		NotReady  bool   `yaml:"publishNotReadyAddresses"`
		Selector  map[string]string
		Ports     []struct {
			Name string
			Port int
		}
	}
	kubeSet struct {
		ServiceName string `yaml:"serviceName"`
		Replicas    int
		Selector    struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		Template struct {
			Metadata kubeMetadata
			Spec     kubePod
		}
		Claims []kubeClaim `yaml:"volumeClaimTemplates"`
	}
	kubeClaim struct {
		Metadata kubeMetadata
		Spec     struct {
			AccessModes []string `yaml:"accessModes"`
			Resources   kubeResources
		}
	}
	kubeResources struct{ Requests map[string]string }
	kubePod       struct {
		Grace    int64 `yaml:"terminationGracePeriodSeconds"`
		Security struct {
			NonRoot      bool   `yaml:"runAsNonRoot"`
			User         int64  `yaml:"runAsUser"`
			Group        int64  `yaml:"runAsGroup"`
			FSGroup      int64  `yaml:"fsGroup"`
			ChangePolicy string `yaml:"fsGroupChangePolicy"`
			Seccomp      struct {
				Type string
			} `yaml:"seccompProfile"`
		} `yaml:"securityContext"`
		Init       []kubeContainer `yaml:"initContainers"`
		Containers []kubeContainer
		Volumes    []struct {
			Name     string
			EmptyDir *struct{} `yaml:"emptyDir"`
		}
	}
	kubeContainer struct {
		Name, Image string
		Args        []string
		Env         []struct{ Name, Value string }
		Ports       []struct {
			Name string
			Port int `yaml:"containerPort"`
		}
		Startup   *kubeProbe `yaml:"startupProbe"`
		Liveness  *kubeProbe `yaml:"livenessProbe"`
		Readiness *kubeProbe `yaml:"readinessProbe"`
		Security  struct {
			Escalation   *bool `yaml:"allowPrivilegeEscalation"`
			ReadOnly     bool  `yaml:"readOnlyRootFilesystem"`
			Capabilities struct{ Drop []string }
		} `yaml:"securityContext"`
		Resources kubeResources
		Mounts    []struct {
			Name string
			Path string `yaml:"mountPath"`
		} `yaml:"volumeMounts"`
	}
	kubeProbe struct {
		Exec      struct{ Command []string }
		Period    int `yaml:"periodSeconds"`
		Timeout   int `yaml:"timeoutSeconds"`
		Threshold int `yaml:"failureThreshold"`
	}
)

func strictly(t *testing.T, content []byte, into any) {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

// parses checks that solstice takes these arguments, without doing anything.
func parses(t *testing.T, args []string) {
	t.Helper()
	cmd, rest, err := newRoot().Find(args)
	if err == nil && !cmd.DisableFlagParsing {
		err = cmd.ParseFlags(rest)
		if err == nil {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
	}
	if err != nil || !cmd.HasParent() {
		t.Errorf("solstice does not take %q: %v", args, err)
	}
}

// TestKubernetes: the example in docs/ is what docs/kubernetes.md says of it, and each command in it is one of ours.
func TestKubernetes(t *testing.T) {
	content, err := os.ReadFile("../../docs/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var service kubeService
	var set kubeSet
	var kinds []string
	for d := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var object kubeObject
		d.KnownFields(true)
		err := d.Decode(&object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		spec, err := yaml.Marshal(&object.Spec)
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, object.APIVersion+" "+object.Kind+" "+object.Metadata.Name)
		switch object.Kind {
		case "Service":
			strictly(t, spec, &service)
		case "StatefulSet":
			strictly(t, spec, &set)
		}
	}
	if want := []string{"v1 Service gaia", "apps/v1 StatefulSet gaia"}; !slices.Equal(kinds, want) {
		t.Fatalf("the objects are %q, want %q", kinds, want)
	}
	pod := set.Template.Spec
	labels := set.Template.Metadata.Labels["app"]
	if set.Replicas != 1 || set.ServiceName != "gaia" || labels == "" || set.Selector.MatchLabels["app"] != labels || service.Selector["app"] != labels {
		t.Errorf("the service and the set do not belong together: %+v, %+v", service, set)
	}
	if service.ClusterIP != "None" || !service.NotReady || len(service.Ports) != 2 {
		t.Errorf("the service is %+v", service)
	}
	if len(pod.Containers) != 1 || len(pod.Init) != 1 || len(set.Claims) != 1 || len(pod.Volumes) != 1 || pod.Volumes[0].EmptyDir == nil {
		t.Fatalf("the pod is %+v", pod)
	}
	if s := pod.Security; !s.NonRoot || s.User == 0 || s.Group == 0 || s.FSGroup != s.Group || s.ChangePolicy != "OnRootMismatch" || s.Seccomp.Type != "RuntimeDefault" {
		t.Errorf("the pod runs as %+v", s)
	}
	claim := set.Claims[0]
	if !slices.Equal(claim.Spec.AccessModes, []string{"ReadWriteOncePod"}) || claim.Spec.Resources.Requests["storage"] == "" {
		t.Errorf("the volume is %+v", claim)
	}
	var settings []string
	for name := range new(Config).settings() {
		settings = append(settings, name)
	}
	node := pod.Containers[0]
	for _, c := range append(pod.Init, node) {
		env := map[string]string{}
		for _, v := range c.Env {
			env[v.Name] = v.Value
			if !slices.Contains(settings, v.Name) {
				t.Errorf("%s: there is no setting %s", c.Name, v.Name)
			}
		}
		if env["DAEMON_HOME"] == "" || env["DAEMON_NAME"] == "" || c.Mounts[0].Name != claim.Metadata.Name || c.Mounts[0].Path != env["DAEMON_HOME"] {
			t.Errorf("%s: the volume is not at DAEMON_HOME: %v, %+v", c.Name, env, c.Mounts)
		}
		if s := c.Security; s.Escalation == nil || *s.Escalation || !s.ReadOnly || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || c.Image != node.Image {
			t.Errorf("%s: it runs %s with %+v", c.Name, c.Image, s)
		}
		parses(t, c.Args)
		if grace, err := time.ParseDuration(env["DAEMON_SHUTDOWN_GRACE"]); c.Name == node.Name && (err != nil || time.Duration(pod.Grace)*time.Second < 2*grace) {
			t.Errorf("the pod has %d s to stop, the node %v (%v)", pod.Grace, grace, err)
		}
	}
	for name, probe := range map[string]*kubeProbe{"alive": node.Liveness, "alive at its start": node.Startup, "ready": node.Readiness} {
		if probe == nil || len(probe.Exec.Command) == 0 || probe.Exec.Command[0] != "/usr/local/bin/solstice" {
			t.Errorf("%s: the probe is %+v", name, probe)
			continue
		}
		parses(t, probe.Exec.Command[1:])
		if ready := slices.Contains(probe.Exec.Command, "--check=ready"); ready != (name == "ready") {
			t.Errorf("%s: the probe asks %q", name, probe.Exec.Command)
		}
		if time.Duration(probe.Timeout)*time.Second <= checkPatience || probe.Period == 0 || probe.Threshold < 2 {
			t.Errorf("%s: the probe gives up too early: %+v", name, probe)
		}
	}
}
