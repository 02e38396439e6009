# Agents in several regions of AWS, from one list:
#
#     regions = {
#       eu-west-1 = {}
#       us-east-1 = { agents = 3 }
#     }
#
# Another token or package replaces instances, and what is replaced counts nothing for some minutes. So give it to one region after
# another by `overrides`, each when the collector's page of agents shows that the one before is well, and to all at the end:
#
#     overrides = { eu-west-1 = { token = "the new one" } }

locals {
  # One entry for each agent. Its key is its node's name, which stays when its instance is replaced: the series go on.
  agents = merge([
    for region, wanted in var.regions : {
      for index in range(wanted.agents) : "${region}-${index}" => { region = region, index = index }
    }
  ]...)
}

data "aws_ami" "debian" {
  for_each = var.regions
  region   = each.key

  # Debian's own account.
  owners      = ["136693071363"]
  most_recent = true

  filter {
    name   = "name"
    values = ["debian-12-${var.architecture}-*"]
  }
}

data "aws_vpc" "default" {
  for_each = { for region, wanted in var.regions : region => wanted if length(wanted.subnets) == 0 }
  region   = each.key
  default  = true
}

data "aws_subnets" "default" {
  for_each = data.aws_vpc.default
  region   = each.key

  filter {
    name   = "vpc-id"
    values = [each.value.id]
  }

  filter {
    name   = "default-for-az"
    values = ["true"]
  }
}

locals {
  subnets = {
    for region, wanted in var.regions :
    region => length(wanted.subnets) > 0 ? wanted.subnets : sort(data.aws_subnets.default[region].ids)
  }
}

data "aws_subnet" "first" {
  for_each = var.regions
  region   = each.key
  id       = local.subnets[each.key][0]
}

# Out, and nothing in: an agent is asked by nobody.
resource "aws_security_group" "agent" {
  for_each = var.regions
  region   = each.key

  name_prefix = "aviary-agent-"
  description = "Canary agents: out, and nothing in"
  vpc_id      = data.aws_subnet.first[each.key].vpc_id

  egress {
    description      = "What is probed, names, the time, and the collector"
    from_port        = 0
    to_port          = 0
    protocol         = "-1"
    cidr_blocks      = ["0.0.0.0/0"]
    ipv6_cidr_blocks = ["::/0"]
  }

  lifecycle {
    create_before_destroy = true
  }
}

locals {
  # What an agent is given, by its region.
  given = {
    for region in keys(var.regions) : region => {
      token  = try(coalesce(var.overrides[region].token), var.token)
      url    = try(coalesce(var.overrides[region].package.url), var.package.url)
      sha256 = try(coalesce(var.overrides[region].package.sha256), var.package.sha256)
    }
  }
}

resource "aws_instance" "agent" {
  for_each = local.agents
  region   = each.value.region

  ami                         = data.aws_ami.debian[each.value.region].id
  instance_type               = var.regions[each.value.region].instance_type
  subnet_id                   = element(local.subnets[each.value.region], each.value.index)
  vpc_security_group_ids      = [aws_security_group.agent[each.value.region].id]
  associate_public_ip_address = true

  user_data = templatefile("${path.module}/agent.yaml.tftpl", {
    node      = each.key
    collector = var.collector
    token     = local.given[each.value.region].token
    url       = local.given[each.value.region].url
    sha256    = local.given[each.value.region].sha256
  })
  user_data_replace_on_change = true

  # What the agent asks the metadata service for, its region and zone, it asks with a token.
  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }

  # A burst that is used up would be a starved agent.
  credit_specification {
    cpu_credits = "unlimited"
  }

  root_block_device {
    encrypted   = true
    volume_type = "gp3"
  }

  # A newer image is no reason to replace what measures.
  lifecycle {
    ignore_changes = [ami]
  }

  tags = { Name = "aviary-agent-${each.key}" }
}
