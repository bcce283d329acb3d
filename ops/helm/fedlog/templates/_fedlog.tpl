{{/* What every object is called and labelled; `.` is a map of `root` and `name`. */}}
{{- define "fedlog.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: fedlog
{{- end }}

{{- define "fedlog.metadata" -}}
name: {{ .root.Release.Name }}-{{ .name }}
labels: {{- include "fedlog.labels" . | nindent 2 }}
{{- end }}

{{- define "fedlog.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* How to reach Kafka as `principal`. */}}
{{- define "fedlog.kafka" -}}
{{- $ours := .root.Values.strimzi.enabled -}}
{{- $kafka := .root.Values.kafka -}}
- name: FEDLOG_BOOTSTRAP_SERVERS
  {{- if $ours }}
  value: {{ .root.Release.Name }}-kafka-bootstrap:9093
  {{- else }}
  value: {{ required "kafka.bootstrapServers, or strimzi.enabled" $kafka.bootstrapServers | quote }}
  {{- end }}
- name: FEDLOG_TOPIC_PREFIX
  value: {{ .root.Values.topicPrefix | quote }}
- name: FEDLOG_REPLICATION
  value: {{ $kafka.replication | quote }}
- name: FEDLOG_PARTITIONS
  value: {{ $kafka.partitions | quote }}
- name: FEDLOG_SECURITY_PROTOCOL
  value: {{ if $ours }}SASL_SSL{{ else }}{{ $kafka.securityProtocol }}{{ end }}
{{- if or $ours $kafka.caSecret }}
- name: FEDLOG_SSL_CAFILE
  value: /run/kafka/ca.crt
{{- end }}
- name: FEDLOG_OPERATOR_PUBLIC_KEY
  value: {{ required "operatorPublicKey: the output of `fedlog key show`" .root.Values.operatorPublicKey | quote }}
{{- end }}

{{- define "fedlog.principal" -}}
- name: FEDLOG_SASL_MECHANISM
  value: {{ if .root.Values.strimzi.enabled }}SCRAM-SHA-512{{ else }}{{ .root.Values.kafka.saslMechanism }}{{ end }}
- name: FEDLOG_SASL_USERNAME
  value: {{ .principal }}
- name: FEDLOG_SASL_PASSWORD
  valueFrom:
    secretKeyRef:
      {{- if .root.Values.strimzi.enabled }}
      name: {{ .principal }}
      key: password
      {{- else }}
      name: {{ .root.Values.kafka.passwordsSecret }}
      key: {{ .principal }}
      {{- end }}
{{- end }}

{{- define "fedlog.metrics" -}}
- name: FEDLOG_METRICS_HOST
  value: 0.0.0.0
- name: FEDLOG_METRICS_PORT
  value: "9464"
{{- end }}

{{/* The key of a role: fedlog refuses a file that others may read, and Kubernetes lets the group read a Secret. */}}
{{- define "fedlog.keyEnvironment" -}}
- name: FEDLOG_ROLE_KEY_FILE
  value: /run/fedlog-key/role.key
{{- end }}
{{- define "fedlog.keyMount" -}}
- name: key
  mountPath: /run/fedlog-key
  readOnly: true
{{- end }}
{{- define "fedlog.keyVolumes" -}}
- name: issued-key
  secret:
    secretName: {{ .root.Release.Name }}-key-{{ .role }}
    defaultMode: 0440
    items:
      - key: role.key
        path: role.key
- name: key
  emptyDir:
    medium: Memory
{{- end }}
{{- define "fedlog.keyCopy" -}}
- name: key
  image: "{{ .root.Values.image.server }}:{{ .root.Values.image.tag }}"
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: ["install", "-m", "0400", "/run/issued-key/role.key", "/run/fedlog-key/role.key"]
  securityContext: {{- include "fedlog.confined" . | nindent 4 }}
  resources:
    requests: { cpu: 10m, memory: 16Mi }
    limits: { memory: 64Mi }
  volumeMounts:
    - name: issued-key
      mountPath: /run/issued-key
      readOnly: true
    - name: key
      mountPath: /run/fedlog-key
{{- end }}

{{- define "fedlog.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Without OnRootMismatch each mount of a volume would open its files to the group, and fedlog refuse them. */}}
{{- define "fedlog.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: {{ .root.Values.spread.whenUnsatisfiable }}
    labelSelector:
      matchLabels: {{- include "fedlog.selector" . | nindent 8 }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "fedlog.selector" . | nindent 14 }}
{{- end }}

{{/* Mounts and volumes of every container: somewhere to write, and whom to trust. */}}
{{- define "fedlog.mounts" -}}
- name: home
  mountPath: /var/lib/fedlog
- name: scratch
  mountPath: /tmp
{{- include "fedlog.trustMount" . }}
{{- end }}
{{- define "fedlog.trustMount" -}}
{{- if or .root.Values.strimzi.enabled .root.Values.kafka.caSecret }}
- name: kafka-ca
  mountPath: /run/kafka
  readOnly: true
{{- end }}
{{- end }}
{{- define "fedlog.volumes" -}}
- name: scratch
  emptyDir: {}
{{- if or .root.Values.strimzi.enabled .root.Values.kafka.caSecret }}
- name: kafka-ca
  secret:
    secretName: {{ if .root.Values.strimzi.enabled }}{{ .root.Release.Name }}-cluster-ca-cert{{ else }}{{ .root.Values.kafka.caSecret }}{{ end }}
    items:
      - key: {{ if .root.Values.strimzi.enabled }}ca.crt{{ else }}{{ .root.Values.kafka.caKey }}{{ end }}
        path: ca.crt
{{- end }}
{{- end }}

{{- define "fedlog.image" -}}
image: "{{ get .root.Values.image (default "server" .image) }}:{{ .root.Values.image.tag }}"
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext: {{- include "fedlog.confined" . | nindent 2 }}
{{- end }}

{{- define "fedlog.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{- include "fedlog.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "fedlog.selector" . | nindent 6 }}
{{- end }}

{{/* A service of metrics, by which the monitors find whom to ask; for a StatefulSet also the one of its names. */}}
{{- define "fedlog.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "fedlog.metadata" . | nindent 2 }}
    fedlog/serves-metrics: "true"
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {{- include "fedlog.selector" . | nindent 4 }}
  ports:
    - name: metrics
      port: 9464
      targetPort: metrics
{{- end }}
