module distlock

go 1.19
