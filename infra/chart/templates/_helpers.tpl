{{/* What the pods are: a server of a bundle, or the gateway. _server.tpl and _gateway.tpl have what differs. */}}
{{- define "tunewright.role" -}}
{{ ternary "gateway" "server" (eq .Values.engine "gateway") }}
{{- end }}

{{/* The port on which the image of that role listens. */}}
{{- define "tunewright.port" -}}
{{ ternary 8081 8080 (eq .Values.engine "gateway") }}
{{- end }}

{{/* The labels by which pods are found. They can't change, so nothing of a version is among them. */}}
{{- define "tunewright.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Of everything. `tunewright: NAME` is by what `tunewright deploy` finds its own. */}}
{{- define "tunewright.labels" -}}
{{ include "tunewright.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: {{ include "tunewright.role" . }}
app.kubernetes.io/part-of: tunewright
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
tunewright: {{ .Release.Name | quote }}
{{- end }}

{{/* The tracks that have replicas, as JSON. */}}
{{- define "tunewright.tracks" -}}
{{- $tracks := list }}
{{- range $track := list "stable" "canary" }}
{{- if gt (int (index $.Values $track).replicas) 0 }}{{ $tracks = append $tracks $track }}{{ end }}
{{- end }}
{{- toJson $tracks }}
{{- end }}

{{/* The most pods of a track (list . track): the canary keeps its share of what stable may have. */}}
{{- define "tunewright.most" -}}
{{- $values := (index . 0).Values }}
{{- $most := int $values.autoscaling.maxReplicas }}
{{- $stable := int $values.stable.replicas }}
{{- if and (eq (index . 1) "canary") (gt $stable 0) -}}
{{- div (add (mul $most (int $values.canary.replicas)) (sub $stable 1)) $stable }}
{{- else -}}
{{- $most }}
{{- end }}
{{- end }}

{{/* What the autoscaler must not take away at once. */}}
{{- define "tunewright.behavior" -}}
behavior:
  scaleDown:
    stabilizationWindowSeconds: {{ int .Values.autoscaling.cooldownSeconds }}
{{- end }}
