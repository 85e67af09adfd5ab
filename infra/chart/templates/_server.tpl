{{/* What pods that serve a bundle have, and the gateway's don't. */}}

{{- define "tunewright.server.strategy" -}}
rollingUpdate:
  maxUnavailable: 0
  maxSurge: 1
{{- end }}

{{- define "tunewright.server.annotations" -}}
{{- with .Values.auth.identity }}
{{- if .issuer }}
# The server reads it once.
checksum/identity: {{ toJson . | sha256sum }}
{{- end }}
{{- end }}
{{- end }}

{{/* Of a track, with its `cores` beside the values. */}}
{{- define "tunewright.server.command" -}}
{{- $gpu := eq .Values.engine "vllm" -}}
# Appended to the image's own: tunewright serve /bundle --engine … --host 0.0.0.0
args:
  - --timeout={{ int .Values.server.timeoutSeconds }}
  - --limit-concurrency={{ int .Values.server.limitConcurrency }}
  {{- if not $gpu }}
  - --threads={{ .cores }}
  {{- end }}
  {{- if .Values.auth.keysSecret }}
  - --keys=/etc/tunewright/keys/keys.json
  {{- end }}
  {{- if .Values.auth.identity.issuer }}
  - --identity=/etc/tunewright/identity/identity.json
  {{- end }}
  {{- if .Values.captures.enabled }}
  - --captures=/captures
  {{- end }}
{{- if $gpu }}
env:
  # vLLM, torch, Triton and CUDA keep caches in the home folder; the image's own is read-only.
  - name: HOME
    value: /tmp
{{- end }}
{{- end }}

{{- define "tunewright.server.mounts" -}}
{{- if eq .Values.engine "vllm" }}
- name: shared-memory
  mountPath: /dev/shm
{{- end }}
{{- if .Values.auth.identity.issuer }}
- name: identity
  mountPath: /etc/tunewright/identity
  readOnly: true
{{- end }}
{{- end }}

{{- define "tunewright.server.volumes" -}}
{{- if eq .Values.engine "vllm" }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.gpu.sharedMemory }}
{{- end }}
{{- if .Values.auth.identity.issuer }}
- name: identity
  configMap:
    name: {{ .Release.Name }}-identity
{{- end }}
{{- end }}
