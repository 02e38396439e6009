terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # From 6 on a resource says its region itself. Before, each region needed a provider of its own, by alias, and a module
      # call beside it, since neither can be made in a loop: a region more was a change of code.
      version = "~> 6.0"
    }
  }
}

# Which region stands here matters to nothing below.
provider "aws" {
  region = "us-east-1"

  default_tags {
    tags = { project = "aviary" }
  }
}
