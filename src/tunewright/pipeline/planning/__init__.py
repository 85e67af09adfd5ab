"""What every step of a project needs: memory, disk, hours and dollars, before it is begun."""
