output "nodes" {
  description = "The agents' nodes as pages and series name them, with their addresses, for allow lists of what is probed."
  value       = { for node, instance in aws_instance.agent : node => instance.public_ip }
}
