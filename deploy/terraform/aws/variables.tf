variable "regions" {
  description = "Where agents run: how many in each region, spread over its zones. One more line is one region more."
  type = map(object({
    agents        = optional(number, 2)
    instance_type = optional(string, "t4g.nano")
    # The default VPC's, one in each zone, unless told otherwise.
    subnets = optional(list(string), [])
  }))

  validation {
    condition     = alltrue([for region in values(var.regions) : region.agents >= 1 && region.agents <= 20])
    error_message = "A region has 1 to 20 agents."
  }
}

variable "collector" {
  description = "The collector's address, such as https://collector.example.net:8610."
  type        = string

  validation {
    condition     = startswith(var.collector, "https://")
    error_message = "Beyond the collector's own host, reports go by https:// only."
  }
}

variable "token" {
  description = "What the agents report with, of scope `report` alone. It is in the state and in the instances' user data."
  type        = string
  sensitive   = true

  validation {
    condition     = can(regex("^[!-~]{16,}$", var.token))
    error_message = "The token is one word of 16 printable characters or more."
  }
}

variable "package" {
  description = "The Debian package: where it is, and its SHA-256 as SHA256SUMS has it. For arm64, as t4g instances are."
  type = object({
    url    = string
    sha256 = string
  })
}

variable "overrides" {
  description = "What regions have in the place of `token` and `package`, while another is given to one region after another."
  type = map(object({
    token = optional(string)
    package = optional(object({
      url    = string
      sha256 = string
    }))
  }))
  default   = {}
  sensitive = true
}

variable "architecture" {
  description = "What the instance types and the package are for: arm64 or amd64."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "amd64"], var.architecture)
    error_message = "arm64 or amd64."
  }
}
